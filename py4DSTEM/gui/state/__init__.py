"""The model of the program: frozen values and what may be done to them; no Qt."""
