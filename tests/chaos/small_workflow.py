"""The small workflow in a folder of its own: run it, watch its jobs, ask what it still plans."""

import base64
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
# A hung run is a fault of its own; a busy machine may take ten minutes for the whole.
LIMIT_S = 3600.0

# Where each rule leaves its outputs, as globs below results/.
OUTPUTS = {
    "acquire_manifest": "manifests/*.csv",
    "acquire_part": "raw/*/[0-9].csv",
    "acquire_benchmark": "raw/*/labels.csv",
    "acquire_detection": "raw/*/sources.json",
    "acquire_encoder": "encoders/start_*/model.safetensors",
    "cut_part": "shards/lotss/*.h5",
    "cut_chips": "shards/sar_chips/*.h5",
    "cut_benchmark": "benchmarks/*.h5",
    "cut_detection": "detection/*.h5",
    "cut_corpus": "corpora/*.h5",
    "pretrain_reconstruction": "encoders/reconstruction_*/model.safetensors",
    "pretrain_contrastive": "encoders/two_stage_*/model.safetensors",
    "train_detector": "detectors/*/*/s*/model.safetensors",
    "detect": "metrics/detection/*/*/s*[0-9].json",
    "features": "features/*/*.h5",
    "probe": "metrics/linear_probe/*/*.json",
    "knn": "metrics/knn/*/*.json",
    "label_budget": "metrics/label_budget/*/*.json",
    "published_split": "metrics/published_split/*/*.json",
    "finetune": "metrics/finetune/*/*.json",
    "yardsticks": "metrics/yardstick/*/*.json",
    "leakage": "leakage/*.json",
    "tables": "tables",
    "figures": "figures",
}
RULES = tuple(OUTPUTS)


@dataclass(frozen=True)
class Size:
    """How much of the workflow is run.

    Parameters
    ----------
    overlays : files beside this one, laid over config.yaml one after the other
    targets : what is asked for; yardsticks are in no table, so they are asked for by name
    left_out : rules that then have no job
    """

    overlays: tuple[str, ...] = ("small.yaml",)
    targets: tuple[str, ...] = ("results/tables", "results/figures", "all_yardsticks")
    left_out: tuple[str, ...] = ()


EVERY_RULE = Size()
SHORT = Size(
    overlays=("small.yaml", "short.yaml"),
    targets=("results/tables",),
    left_out=("knn", "label_budget", "published_split", "finetune", "yardsticks", "figures"),
)


class SmallWorkflow:
    """A copy of the workflow and of the package, which edits of the checkout do not touch.

    Parameters
    ----------
    folder : empty or absent; `results` lies below it
    size : how much of the workflow is run
    twin : one whose files are taken instead of those of the checkout, which may be edited meanwhile
    """

    def __init__(
        self, folder: Path, size: Size = EVERY_RULE, twin: "SmallWorkflow | None" = None
    ) -> None:
        source, package = REPOSITORY, REPOSITORY / "stradavit"
        if twin is not None:
            source, package = twin.folder, twin.folder / "code" / "stradavit"
        self.folder = folder
        self.size = size
        self.results = folder / "results"
        self.n_runs = 0
        self.n_dry_runs = 0
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(source / name, folder / name)
        for name in ("workflow", "profiles", "envs"):
            shutil.copytree(source / name, folder / name)
        shutil.copytree(
            package,
            folder / "code" / "stradavit",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        for name in size.overlays:
            shutil.copy(HERE / name, folder / name)

    # -- running ----------------------------------------------------------------------------------

    def start(self, *targets: str, options: tuple[str, ...] = ()) -> "Running":
        """Start Snakemake in a process group of its own; its output goes to `run-N.log`."""
        self.n_runs += 1
        log_path = self.folder / f"run-{self.n_runs}.log"
        command = [BIN / "snakemake", "--cores", "2", *(targets or self.size.targets)]
        command += ["--configfile", *self.size.overlays]
        command += options
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                list(map(str, command)),
                cwd=self.folder,
                env=self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Running(process, log_path)

    def run(self, *targets: str, options: tuple[str, ...] = ()) -> "Running":
        """Run to the end."""
        running = self.start(*targets, options=options)
        running.wait()
        return running

    def planned(self, *targets: str) -> dict[str, int]:
        """How many jobs of each rule a dry run plans."""
        self.n_runs -= 1
        self.n_dry_runs += 1
        dry = self.run(*targets, options=("--dry-run", "--quiet", "reason"))
        if dry.status != 0:
            raise AssertionError(f"the dry run failed:\n{dry.text()[-3000:]}")
        counted = re.findall(r"^(\w+) +(\d+)$", dry.text(), re.MULTILINE)
        return {rule: int(n) for rule, n in counted if rule in RULES}

    def unlock(self) -> None:
        """What the README says to do where Snakemake itself was killed."""
        self.n_runs -= 1
        unlocked = self.run(options=("--unlock",))
        if unlocked.status != 0:
            raise AssertionError(f"--unlock failed:\n{unlocked.text()[-3000:]}")

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "code"),
            "OMP_NUM_THREADS": "1",
        }

    def move(self, folder: Path) -> None:
        """Put it all elsewhere, to look at; it is not to be run there."""
        self.folder = self.folder.rename(folder)
        self.results = self.folder / "results"

    # -- looking ----------------------------------------------------------------------------------

    def outputs(self, rule: str) -> list[Path]:
        """What a rule has made so far, sorted."""
        found = sorted(self.results.glob(OUTPUTS[rule]))
        return [path for path in found if not path.name.endswith(".detections.json")]

    def unfinished(self) -> set[str]:
        """Rules with outputs that Snakemake does not know to be whole, and makes again."""
        marks = self.folder / ".snakemake" / "incomplete"
        # The name of a mark is the output's in Base64; long ones are split into folders.
        names = [
            "".join(part.removeprefix("@") for part in path.relative_to(marks).parts)
            for path in marks.rglob("*")
            if path.is_file()
        ]
        marked = {base64.urlsafe_b64decode(name).decode() for name in names}
        return {rule for rule in RULES if marked & set(map(self.name, self.outputs(rule)))}

    def name(self, path: Path) -> str:
        """A path as Snakemake and messages name it: relative to the folder."""
        return path.relative_to(self.folder).as_posix()

    def tables(self) -> dict[str, str]:
        """SHA-256 of every file in results/tables, by name."""
        return {path.name: digest(path) for path in sorted((self.results / "tables").iterdir())}

    def duration_s(self, rule: str) -> float:
        """The shortest job of a rule, as Snakemake timed it; 3 s where it has not."""
        times = []
        for path in sorted((self.results / "timings" / rule).glob("*.tsv")) or sorted(
            (self.results / "timings").glob(f"{rule}.tsv")
        ):
            lines = path.read_text(encoding="utf-8").splitlines()
            times += [float(line.split("\t")[0]) for line in lines[1:]]
        return min(times, default=3.0)


class Running:
    """One Snakemake, running or ended.

    Parameters
    ----------
    process : leader of a process group that its jobs belong to
    log_path : both its streams
    """

    def __init__(self, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
        self.process = process
        self.log_path = log_path

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def status(self) -> int:
        """Exit status; waits for the end."""
        return self.wait()

    def text(self) -> str:
        """What Snakemake and its failed jobs have said."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Wait for the end; a run beyond the limit is killed and told as hung."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill(signal.SIGKILL)
            raise AssertionError(f"hung for {limit_s:.0f} s: {self.log_path}") from None

    def kill(self, number: int) -> None:
        """Send a signal to Snakemake and all its jobs, as Ctrl-C and a batch system do."""
        os.killpg(self.process.pid, number)

    def stages(self) -> dict[str, psutil.Process]:
        """Processes of stages that run just now, by rule."""
        found = {}
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            return {}
        for child in children:
            try:
                rule = rule_of(child.cmdline())
            except psutil.Error:
                continue
            if rule is not None:
                found[rule] = child
        return found

    def wait_for(self, rule: str, limit_s: float = LIMIT_S) -> psutil.Process | None:
        """The process of a job of the rule, as soon as there is one; None if the run ends first."""
        end = time.monotonic() + limit_s
        while self.is_running and time.monotonic() < end:
            if rule in (stages := self.stages()):
                return stages[rule]
            time.sleep(0.02)
        return None


def rule_of(words: list[str]) -> str | None:
    """The rule whose stage a command line is, or None.

    The shell around a stage has the whole line as one word, so it is not taken for it.
    """
    for place, word in enumerate(words[:4]):
        if Path(word).name == "stradavit" and place + 1 < len(words):
            stage = words[place + 1].replace("-", "_")
            if stage == "pretrain":
                is_second = any("/two_stage_" in one for one in words[words.index("--out") :][:2])
                return "pretrain_contrastive" if is_second else "pretrain_reconstruction"
            return stage if stage in RULES else None
    return None


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    hasher = hashlib.sha256()
    for file in files:
        if file.is_file():
            hasher.update(file.read_bytes())
    return hasher.hexdigest()


def remove(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
