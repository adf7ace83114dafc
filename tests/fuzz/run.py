"""Coverage-guided fuzzing of the parsers: python -m tests.fuzz.run [--seconds S] [TARGET …]

Needs atheris (pip install 'av_grounding[fuzz]'). Corpora grow in .cache/fuzz/TARGET; what breaks
a parser is left there as broken-… and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "fuzz"
MAX_MEMORY_MB = 4096
HANG_S = 20
"""Wall time after which an input counts as a hang; less is measured as processor time."""
MAX_INPUT_BYTES = 1 << 17


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all, in turn")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--list", action="store_true", help="print the targets")
    args = parser.parse_args()
    from tests.fuzz import fuzz_targets

    try:
        names = fuzz_targets.names(args.targets)
    except ValueError as error:
        parser.error(str(error))
    if args.list:
        print("\n".join(names))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in order, as with Ctrl-C
    failed = [name for name in names if not fuzz_in_a_process(name, args.seconds)]
    print(f"broken: {', '.join(failed)}" if failed else f"{len(names)} targets, nothing broke")
    return 1 if failed else 0


def fuzz_in_a_process(name: str, seconds: int) -> bool:
    """Whether the target held; its own process, as libFuzzer ends the one it runs in."""
    from tests.fuzz import fuzz_files

    corpus = CACHE / name
    corpus.mkdir(parents=True, exist_ok=True)
    # -timeout counts wall time, also that of others on this machine.
    options = [
        f"-max_total_time={seconds}", f"-timeout={HANG_S}", f"-rss_limit_mb={MAX_MEMORY_MB}",
        f"-max_len={MAX_INPUT_BYTES}", "-print_final_stats=1", f"-artifact_prefix={corpus}/",
    ]  # fmt: skip
    command = [sys.executable, "-m", "tests.fuzz.run", "--child", name, *options, str(corpus)]
    log = corpus.with_suffix(".log")
    # libFuzzer ends the process without a word to Python, so its files are ours to remove.
    with fuzz_files.new_folder() as scratch, open(log, "w", encoding="utf-8") as file:
        environment = {
            **os.environ, "PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1",
            "TMPDIR": scratch,
        }  # fmt: skip
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    text = log.read_text(encoding="utf-8", errors="replace")
    runs = [line.split()[-1] for line in text.splitlines() if "number_of_executed_units" in line]
    covered = [line for line in text.splitlines() if " cov: " in line]
    where = covered[-1].split("cov: ")[1].split()[0] if covered else "?"
    state = "held" if done.returncode == 0 else f"BROKEN, see {log}"
    print(f"{name}: {runs[-1] if runs else '?'} inputs, {where} edges, {state}", flush=True)
    return done.returncode == 0


def child(name: str) -> None:
    import atheris

    with atheris.instrument_imports(include=watched(name)):
        from tests.fuzz import fuzz_targets

        target = fuzz_targets.targets()[name]
        for number, seed in enumerate(target.seeds()):
            (CACHE / name / f"seed-{number}").write_bytes(seed)
            try:
                target.run(seed)  # so that all modules are loaded, and instrumented
            except target.documented:
                continue
    from tests.fuzz.fuzz_check import check

    def keep_what_breaks(data: bytes) -> None:
        try:
            check(target, data)
        except Exception:
            name_of_input = hashlib.sha256(data).hexdigest()[:16]
            (CACHE / name / f"broken-{name_of_input}").write_bytes(data)
            raise

    logging.disable(logging.CRITICAL)
    atheris.Setup([sys.argv[0], *sys.argv[3:]], keep_what_breaks)
    atheris.Fuzz()


def watched(name: str) -> list[str]:
    """Modules to instrument, asked in a process that has not loaded them."""
    code = f"import fuzz_targets; print(*fuzz_targets.targets()[{name!r}].modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE
    )
    return found.stdout.split()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
    else:
        sys.exit(main())
