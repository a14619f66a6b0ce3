"""Papers behind the methods, as BibTeX and as words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["REFERENCES", "Reference", "bibtex", "cited_as"]


@dataclass(frozen=True)
class Reference:
    """A paper.

    Parameters
    ----------
    key : str
        What ``\\cite`` calls it.
    authors : str
        As BibTeX wants them: ``"Last, First and Last, First"``.
    title, journal : str
    volume, pages : str
    year : int
    """

    key: str
    authors: str
    title: str
    journal: str
    volume: str
    pages: str
    year: int


REFERENCES = {
    "10.1017/S1431927622000101": Reference(
        "Ophus2022", "Ophus, Colin and Zeltmann, Steven E. and Bruefach, Alexandra and Rakowski, "
        "Alexander and Savitzky, Benjamin H. and Minor, Andrew M. and Scott, Mary C.",
        "Automated Crystal Orientation Mapping in py4DSTEM using Sparse Correlation Matching",
        "Microscopy and Microanalysis", "28", "390--403", 2022,
    ),
    "10.1098/rspa.1953.0064": Reference(
        "Fisher1953", "Fisher, Ronald A.", "Dispersion on a sphere",
        "Proceedings of the Royal Society of London A", "217", "295--305", 1953,
    ),
    "10.1109/TSMC.1979.4310076": Reference(
        "Otsu1979", "Otsu, Nobuyuki", "A Threshold Selection Method from Gray-Level Histograms",
        "IEEE Transactions on Systems, Man, and Cybernetics", "9", "62--66", 1979,
    ),
    "10.1587/transfun.E92.A.708": Reference(
        "Cichocki2009", "Cichocki, Andrzej and Phan, Anh-Huy",
        "Fast Local Algorithms for Large Scale Nonnegative Matrix and Tensor Factorizations",
        "IEICE Transactions on Fundamentals of Electronics, Communications and Computer Sciences",
        "E92-A", "708--721", 2009,
    ),
    "10.2514/1.28949": Reference(
        "Markley2007", "Markley, F. Landis and Cheng, Yang and Crassidis, John L. and Oshman, "
        "Yaakov", "Averaging Quaternions", "Journal of Guidance, Control, and Dynamics", "30",
        "1193--1197", 2007,
    ),
    "10.48550/arXiv.1201.0490": Reference(
        "Pedregosa2011", "Pedregosa, Fabian and Varoquaux, Gaël and Gramfort, Alexandre and "
        "Michel, Vincent and Thirion, Bertrand and Grisel, Olivier and Blondel, Mathieu and "
        "Prettenhofer, Peter and Weiss, Ron and Dubourg, Vincent and others",
        "Scikit-learn: Machine Learning in Python", "Journal of Machine Learning Research", "12",
        "2825--2830", 2011,
    ),
    "10.1016/0377-0427(87)90125-7": Reference(
        "Rousseeuw1987", "Rousseeuw, Peter J.",
        "Silhouettes: A graphical aid to the interpretation and validation of cluster analysis",
        "Journal of Computational and Applied Mathematics", "20", "53--65", 1987,
    ),
    "10.1007/BF01908075": Reference(
        "Hubert1985", "Hubert, Lawrence and Arabie, Phipps", "Comparing partitions",
        "Journal of Classification", "2", "193--218", 1985,
    ),
    "10.1017/S1431927621000477": Reference(
        "Savitzky2021", "Savitzky, Benjamin H. and Zeltmann, Steven E. and Hughes, Lauren A. and "
        "Brown, Hamish G. and Zhao, Shiteng and Pelz, Philipp M. and Pekin, Thomas C. and Barnard, "
        "Edward S. and Donohue, Jennifer and Rangel DaCosta, Luis and Kennedy, Ellis and Xie, "
        "Yujun and Janish, Matthew T. and Schneider, Matthew M. and Herring, Patrick and Gopal, "
        "Chirranjeevi and Anapolsky, Abraham and Dhall, Rohan and Bustillo, Karen C. and Ercius, "
        "Peter and Scott, Mary C. and Ciston, Jim and Minor, Andrew M. and Ophus, Colin",
        "py4DSTEM: A Software Package for Four-Dimensional Scanning Transmission Electron "
        "Microscopy Data Analysis", "Microscopy and Microanalysis", "27", "712--743", 2021,
    ),
    "10.1016/j.ultramic.2016.12.021": Reference(
        "Pekin2017", "Pekin, Thomas C. and Gammer, Christoph and Ciston, Jim and Minor, Andrew M. "
        "and Ophus, Colin", "Optimizing disk registration algorithms for nanobeam electron "
        "diffraction strain mapping", "Ultramicroscopy", "176", "170--176", 2017,
    ),
    "10.1016/j.ultramic.2020.112994": Reference(
        "Padgett2020", "Padgett, Elliot and Holtz, Megan E. and Cueva, Paul and Shao, Yu-Tsun and "
        "Langenberg, Eric and Schlom, Darrell G. and Muller, David A.",
        "The exit-wave power-cepstrum transform for scanning nanobeam electron diffraction: "
        "robust strain mapping at subnanometer resolution and subpicometer precision",
        "Ultramicroscopy", "214", "112994", 2020,
    ),
    "10.1016/j.ultramic.2015.10.011": Reference(
        "Lazic2016", "Lazić, Ivan and Bosch, Eric G. T. and Lazar, Sorin",
        "Phase contrast STEM for thin samples: Integrated differential phase contrast",
        "Ultramicroscopy", "160", "265--280", 2016,
    ),
    "10.1038/ncomms6653": Reference(
        "Muller2014", "Müller, Knut and Krause, Florian F. and Béché, Armand and Schowalter, Marco "
        "and Galioit, Vincent and Löffler, Stefan and Verbeeck, Johan and Zweck, Josef and "
        "Schattschneider, Peter and Rosenauer, Andreas",
        "Atomic electric fields revealed by a quantum mechanical approach to electron "
        "picodiffraction", "Nature Communications", "5", "5653", 2014,
    ),
    "10.1109/34.3909": Reference(
        "Frankot1988", "Frankot, Robert T. and Chellappa, Rama",
        "A method for enforcing integrability in shape from shading algorithms",
        "IEEE Transactions on Pattern Analysis and Machine Intelligence", "10", "439--451", 1988,
    ),
    "10.1111/jmi.12372": Reference(
        "Lupini2016", "Lupini, Andrew R. and Chi, Miaofang and Jesse, Stephen",
        "Rapid aberration measurement with pixelated detectors", "Journal of Microscopy", "263",
        "43--50", 2016,
    ),
    "10.1016/j.ultramic.2014.09.013": Reference(
        "Pennycook2015", "Pennycook, Timothy J. and Lupini, Andrew R. and Yang, Hao and Murfitt, "
        "Matthew F. and Jones, Lewys and Nellist, Peter D.",
        "Efficient phase contrast imaging in STEM using a pixelated detector. Part 1: Experimental "
        "demonstration at atomic resolution", "Ultramicroscopy", "151", "160--167", 2015,
    ),
    "10.1016/j.ultramic.2020.113133": Reference(
        "Ooe2021", "Ooe, Kousuke and Seki, Takehito and Ikuhara, Yuichi and Shibata, Naoya",
        "Ultra-high contrast STEM imaging for segmented/pixelated detectors by maximizing the "
        "signal-to-noise ratio", "Ultramicroscopy", "220", "113133", 2021,
    ),
    "10.1098/rsta.1992.0050": Reference(
        "Rodenburg1992", "Rodenburg, John M. and Bates, Richard H. T.",
        "The theory of super-resolution electron microscopy via Wigner-distribution deconvolution",
        "Philosophical Transactions of the Royal Society of London A", "339", "521--553", 1992,
    ),
    "10.1016/j.ultramic.2009.05.012": Reference(
        "Maiden2009", "Maiden, Andrew M. and Rodenburg, John M.",
        "An improved ptychographical phase retrieval algorithm for diffractive imaging",
        "Ultramicroscopy", "109", "1256--1262", 2009,
    ),
    "10.1364/OPTICA.4.000736": Reference(
        "Maiden2017", "Maiden, Andrew and Johnson, Daniel and Li, Peng",
        "Further improvements to the ptychographical iterative engine", "Optica", "4", "736--745",
        2017,
    ),
    "10.1364/JOSAA.29.001606": Reference(
        "Maiden2012", "Maiden, Andrew M. and Humphry, Martin J. and Rodenburg, John M.",
        "Ptychographic transmission microscopy in three dimensions using a multi-slice approach",
        "Journal of the Optical Society of America A", "29", "1606--1614", 2012,
    ),
    "10.48550/arXiv.2309.05250": Reference(
        "Varnavides2023", "Varnavides, Georgios and Ribet, Stephanie M. and Zeltmann, Steven E. "
        "and Yu, Yue and Savitzky, Benjamin H. and others",
        "Iterative phase retrieval algorithms for scanning transmission electron microscopy",
        "arXiv", "", "2309.05250", 2023,
    ),
    "10.1016/j.jmb.2003.07.013": Reference(
        "Rosenthal2003", "Rosenthal, Peter B. and Henderson, Richard",
        "Optimal determination of particle orientation, absolute hand, and contrast loss in "
        "single-particle electron cryomicroscopy", "Journal of Molecular Biology", "333",
        "721--745", 2003,
    ),
    "10.1016/j.jsb.2005.05.009": Reference(
        "vanHeel2005", "van Heel, Marin and Schatz, Michael",
        "Fourier shell correlation threshold criteria", "Journal of Structural Biology", "151",
        "250--262", 2005,
    ),
    "10.1038/s41467-020-16688-6": Reference(
        "Chen2020", "Chen, Zhen and Odstrcil, Michal and Jiang, Yi and Han, Yimo and Chiu, "
        "Ming-Hui and Li, Lain-Jong and Muller, David A.",
        "Mixed-state electron ptychography enables sub-angstrom resolution imaging with picometer "
        "precision at low dose", "Nature Communications", "11", "2994", 2020,
    ),
    "10.1107/S0021889800019993": Reference(
        "Keen2001", "Keen, David A.", "A comparison of various commonly used correlation functions "
        "for describing total scattering", "Journal of Applied Crystallography", "34", "172--177",
        2001,
    ),
    "10.1103/PhysRevB.65.174105": Reference(
        "Eggert2002", "Eggert, Jon H. and Weck, Gunnar and Loubeyre, Paul and Mezouar, Mohamed",
        "Quantitative structure factor and density measurements of high-pressure fluids in diamond "
        "anvil cells by x-ray diffraction: Argon and water", "Physical Review B", "65", "174105",
        2002,
    ),
    "10.1088/0022-3719/2/2/305": Reference(
        "Lorch1969", "Lorch, E.", "Neutron diffraction by germania, silica and radiation-damaged "
        "silica glasses", "Journal of Physics C: Solid State Physics", "2", "229--237", 1969,
    ),
    "10.1107/S0108767395014371": Reference(
        "Peng1996", "Peng, L.-M. and Ren, G. and Dudarev, S. L. and Whelan, M. J.", "Robust "
        "Parameterization of Elastic and Absorptive Electron Atomic Scattering Factors",
        "Acta Crystallographica Section A", "52", "257--276", 1996,
    ),
    "10.1038/nmat1266": Reference(
        "Poulsen2005", "Poulsen, Henning F. and Wert, John A. and Neuefeind, Jörg and Honkimäki, "
        "Veijo and Daymond, Mark", "Measuring strain distributions in amorphous materials",
        "Nature Materials", "4", "33--36", 2005,
    ),
    "10.1080/00031305.1983.10483115": Reference(
        "Chan1983", "Chan, Tony F. and Golub, Gene H. and LeVeque, Randall J.",
        "Algorithms for Computing the Sample Variance: Analysis and Recommendations",
        "The American Statistician", "37", "242--247", 1983,
    ),
    "10.1109/TIP.2011.2181402": Reference(
        "Padfield2012", "Padfield, Dirk", "Masked Object Registration in the Fourier Domain",
        "IEEE Transactions on Image Processing", "21", "2706--2718", 2012,
    ),
    "10.1214/aoms/1177703732": Reference(
        "Huber1964", "Huber, Peter J.", "Robust Estimation of a Location Parameter",
        "The Annals of Mathematical Statistics", "35", "73--101", 1964,
    ),
    "10.1093/biomet/35.3-4.246": Reference(
        "Anscombe1948", "Anscombe, F. J.",
        "The Transformation of Poisson, Binomial and Negative-Binomial Data",
        "Biometrika", "35", "246--254", 1948,
    ),
    "10.1016/j.ultramic.2010.05.010": Reference(
        "Daulton2010", "Daulton, Tyrone L. and Bondi, Karl S. and Kelton, Kenneth F.",
        "Nanobeam diffraction fluctuation electron microscopy technique for structural "
        "characterization of disordered materials - Application to Al88-xY7Fe5Tix metallic glasses",
        "Ultramicroscopy", "110", "1279--1289", 2010,
    ),
    "10.1016/S0304-3991(02)00155-9": Reference(
        "Voyles2002", "Voyles, Paul M. and Muller, David A.", "Fluctuation microscopy in the STEM",
        "Ultramicroscopy", "93", "147--159", 2002,
    ),
    "10.1073/pnas.0905337106": Reference(
        "Wochner2009", "Wochner, Peter and Gutt, Christian and Autenrieth, Tina and Demmer, Thomas "
        "and Bugaev, Volodymyr and Díaz Ortiz, Alejandro and Duri, Agnès and Zontone, Federico and "
        "Grübel, Gerhard and Dosch, Helmut",
        "X-ray cross correlation analysis uncovers hidden local symmetries in disordered matter",
        "Proceedings of the National Academy of Sciences", "106", "11511--11514", 2009,
    ),
    "10.1016/j.micron.2016.05.008": Reference(
        "Panova2016", "Panova, Ouliana and Chen, X. Chelsea and Bustillo, Karen C. and Ophus, "
        "Colin and Bhatt, Mahesh P. and Balsara, Nitash and Minor, Andrew M.",
        "Orientation mapping of semicrystalline polymers using scanning electron nanobeam "
        "diffraction", "Micron", "88", "30--36", 2016,
    ),
}  # fmt: skip
"""DOI → paper."""
_SPECIAL = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&",
            "#": r"\#", "_": r"\_", "$": r"\$", "~": r"\textasciitilde{}",
            "^": r"\textasciicircum{}"}  # fmt: skip


def bibtex(dois: Iterable[str], *, version: str = "") -> str:
    """BibTeX entries of papers, each once, and of the program.

    Parameters
    ----------
    dois : iterable of str
        One that is not in the table becomes ``@misc`` with its DOI: the publisher's page has the
        rest.
    version : str
        Of the program; "": without an entry for it.

    Returns
    -------
    str

    Examples
    --------
    >>> print(bibtex(["10.1234/new-method"]))
    @misc{doi:10.1234/new-method,
      doi = {10.1234/new-method},
      url = {https://doi.org/10.1234/new-method}
    }
    <BLANKLINE>
    """
    entries = [_program(version)] if version else []
    entries += [_entry(doi) for doi in dict.fromkeys(dois)]
    return "\n".join(entries)


def cited_as(dois: Sequence[str]) -> str:
    """Papers in words: ``"Lazić et al. (2016)"``, or the DOI of one that is not in the table.

    >>> cited_as(["10.1016/j.ultramic.2015.10.011", "10.1234/x"])
    'Lazić et al. (2016), doi:10.1016/j.ultramic.2015.10.011; doi:10.1234/x'
    """
    return "; ".join(map(_short, dois))


def _short(doi: str) -> str:
    paper = REFERENCES.get(doi)
    if paper is None:
        return f"doi:{doi}"
    names = [author.partition(",")[0].strip() for author in paper.authors.split(" and ")]
    short = len(names) <= 2 and "others" not in names
    who = " & ".join(names) if short else f"{names[0]} et al."
    return f"{who} ({paper.year}), doi:{doi}"


def _entry(doi: str) -> str:
    paper = REFERENCES.get(doi)
    if paper is None:
        key = "doi:" + re.sub(r"[^0-9A-Za-z./:-]", "-", doi)
        return _written(
            "misc", key, {"doi": _escaped(doi), "url": _escaped(f"https://doi.org/{doi}")}
        )
    fields = {
        "author": paper.authors, "title": f"{{{_escaped(paper.title)}}}",
        "journal": _escaped(paper.journal), "volume": paper.volume, "pages": paper.pages,
        "year": str(paper.year), "doi": doi,
    }  # fmt: skip
    return _written("article", paper.key, fields)


def _program(version: str) -> str:
    fields = {"author": "{The py4DSTEM developers}", "title": "{py4DSTEM}", "version": version}
    return _written("software", "py4DSTEM", {k: v for k, v in fields.items() if v})


def _written(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}\n"


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
