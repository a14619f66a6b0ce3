"""Phase retrieval: centre of mass, parallax, direct and iterative ptychography."""
