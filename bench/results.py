"""The files of a run.

`latest.json` has the rows, `machine.json` says where and when and what is missing, `raw-<date>.jsonl` has the samples.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import facts
from bench.rounds import Row, Sample, summarise
from bench.subjects import SUBJECTS

RESULTS = Path(__file__).parent / "results"


@dataclass
class Record:
    """What a run has found so far.

    `missing` maps workload and subject to the reasons, one a visit that failed; `restless` counts the visits that began
    although the machine had not come to rest: somebody else was at work on it.
    """

    samples: list[Sample] = field(default_factory=list)
    missing: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    visits: int = 0
    restless: int = 0


def write(record: Record, folder: Path, *, rounds: int, seconds: float, quick: bool) -> None:
    """Write the three files; raw figures of earlier runs in the folder make way."""
    folder.mkdir(parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    rows = summarise(record.samples, {name: subject.rival for name, subject in SUBJECTS.items()})
    _write_json(folder / "latest.json", [asdict(row) for row in rows])
    missing = [
        {"workload": work, "subject": who, "times": len(why), "why": why[-1]}
        for (work, who), why in record.missing.items()
    ]
    about = {"date": now.isoformat(timespec="seconds"), "rounds": rounds, "seconds": round(seconds), "quick": quick}
    about |= {"visits": record.visits, "restless": record.restless}
    _write_json(folder / "machine.json", {**about, **facts(), "missing": missing})
    for old in folder.glob("raw-*.jsonl"):
        old.unlink()
    lines = (json.dumps(asdict(sample), ensure_ascii=False) for sample in record.samples)
    (folder / f"raw-{now:%Y-%m-%d}.jsonl").write_text("".join(f"{line}\n" for line in lines))


def read(folder: Path = RESULTS) -> tuple[list[Row], dict[str, Any]]:
    """The rows and the machine's facts of a run; raises FileNotFoundError."""
    rows = [Row(**row) for row in json.loads((folder / "latest.json").read_text())]
    return rows, json.loads((folder / "machine.json").read_text())


def _write_json(path: Path, value: object) -> None:
    if isinstance(value, list):  # a row a line: what changed between runs is seen in a diff
        text = "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]\n"
    else:
        text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
    path.write_text(text)
