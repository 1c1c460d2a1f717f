"""What no source of this project does, whatever it is for."""

import ast
import re
from pathlib import Path

import pytest

# The one module that may unpickle, and does so by names of its own alone.
RESTRICTED = "stradavit/acquire/restricted_pickle.py"
# What the sources of other people's formats are opened by, each in the one place that bounds it.
ONLY_IN = {
    "tarfile.open": (),
    "astropy_votable.parse": ("stradavit/acquire/archives/votable.py",),
    "Image.open": ("stradavit/cutouts/image.py",),
    "fits.open": ("stradavit/cutouts/fits.py",),
    "zipfile.ZipFile": (
        "stradavit/acquire/transfer/archive_files.py",
        "stradavit/models/weights.py",
    ),
    "ElementTree.fromstring": (
        "stradavit/acquire/archives/casda_jobs.py",
        "stradavit/acquire/archives/s3.py",
    ),
    "hashlib.md5": (
        "stradavit/acquire/archives/mirabest.py",
        "stradavit/acquire/batches.py",
    ),
    "hashlib.sha1": ("stradavit/acquire/archives/hub.py",),
}
MODULES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "telnetlib", "imp"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp",
    "yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "pd.read_pickle",
    "pandas.read_pickle", "torch.hub.load", "tarfile.extractall", "ssl._create_unverified_context",
    "subprocess.getoutput", "subprocess.getstatusoutput",
}  # fmt: skip
METHODS = {"extractall", "extract"}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(node: ast.expr) -> str:
    """`a.b.c` of a call's function; `?` stands for what is no name."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def faults_of(source: str, tree: ast.Module) -> list[str]:
    """Every breach of the rules in a module."""
    found = [
        f"{source}: imports {module}"
        for module in imported(tree) & MODULES
        if not (source == RESTRICTED and module == "pickle")
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, where = name_of(node.func), f"{source}:{node.lineno}"
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        wanted = {
            "torch.load": ("weights_only", "True"),
            "np.load": ("allow_pickle", "False"),
            "numpy.load": ("allow_pickle", "False"),
        }
        if name in CALLS or name.rpartition(".")[2] in METHODS:
            found.append(f"{where}: calls {name}")
        if name in wanted and given.get(wanted[name][0]) != wanted[name][1]:
            found.append(f"{where}: calls {name} without {'='.join(wanted[name])}")
        if name in ONLY_IN and source not in ONLY_IN[name]:
            found.append(f"{where}: calls {name}, which belongs elsewhere")
        if name.rpartition(".")[2] == "from_pretrained" and given.get("weights_only") != "True":
            found.append(f"{where}: calls from_pretrained without weights_only=True")
        for key, value in (("shell", "True"), ("verify", "False"), ("trust_remote_code", None)):
            if key in given and value in (None, given[key]):
                found.append(f"{where}: {key}={given[key]}")
        if name.startswith("subprocess.") and node.args and isinstance(node.args[0], ast.Constant):
            found.append(f"{where}: a command as one text")
    return found


def test_sources_keep_the_rules(repository: Path) -> None:
    paths = sorted((repository / "stradavit").rglob("*.py"))
    assert len(paths) > 150
    faults = []
    for path in paths:
        faults += faults_of(path.relative_to(repository).as_posix(), parsed(path))
    assert faults == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from joblib import load", "eval('1')", "import os\nos.system('ls')",
        "torch.load(path)", "torch.load(path, weights_only=False)", "np.load(path)",
        "subprocess.run('ls', shell=True)", "subprocess.run('ls')", "yaml.load(text)",
        "archive.extractall(folder)", "httpx.Client(verify=False)", "tarfile.open(path)",
        "AutoModel.from_pretrained(x, weights_only=True, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_the_rules_see_what_they_are_for(code: str) -> None:
    assert faults_of("stradavit/x.py", ast.parse(code)) != []


def test_the_unpickler_is_the_restricted_one(repository: Path) -> None:
    tree = parsed(repository / RESTRICTED)
    called = {name_of(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not {"pickle.load", "pickle.loads", "pickle.Unpickler"} & called
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    (unpickler,) = (c for c in classes if any(name_of(b) == "pickle.Unpickler" for b in c.bases))
    methods = {node.name for node in unpickler.body if isinstance(node, ast.FunctionDef)}
    assert methods == {"__init__", "find_class"}


def test_rules_quote_what_they_put_into_a_shell(repository: Path) -> None:
    """Words whose letters are ours (a number, a split) may go without; all others are quoted."""
    plain = {"wildcards.part", "params.seed", "params.splits", "params.parts", "params.split"}
    plain |= {"params.size_px", "threads", "params.launch"}
    unquoted = set()
    for path in [repository / "Snakefile", *(repository / "workflow").rglob("*.smk")]:
        text = path.read_text(encoding="utf-8")
        for shell in re.findall(r"shell:\n((?: +\".*\"\n)+)", text):
            for field in re.findall(r"(?<!\{)\{([^{}]+)\}(?!\})", shell):
                if not field.endswith(":q") and field not in plain:
                    unquoted.add(f"{path.name}: {field}")
    assert unquoted == set()
