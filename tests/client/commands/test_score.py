"""`duoserve score`: a whole table through a server; bad rows are reported, a killed run is resumed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet
import pytest

from duoserve import Client
from duoserve.cli import main
from duoserve.score import Scoring
from tests.client.fake import FakeServer, Restless

FULL = grpc.StatusCode.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"


@pytest.fixture
def folder(tmp_path: Path, jpeg: bytes) -> Path:
    """An image, and a table of 100 rows: row 3 has no image file, row 5 no text."""
    (tmp_path / "one.jpg").write_bytes(jpeg)
    rows = [{"id": i, "image": "one.jpg", "text": f"text {i % 7}", "label": "given"} for i in range(1, 101)]
    rows[2]["image"], rows[4]["text"] = "none.jpg", " "
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    return tmp_path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return list(pyarrow.parquet.read_table(path).to_pylist())


def score(server: FakeServer, *arguments: object) -> int:
    return main(["score", "--server", server.address, "--model", "pairs", *map(str, arguments)])


@pytest.mark.parametrize("table", ["pairs.csv", "pairs.jsonl", "pairs.parquet"])
@pytest.mark.parametrize("out", ["out.csv", "out.jsonl", "out.parquet"])
def test_every_row_has_an_answer_or_an_error_in_order(
    server: FakeServer, folder: Path, capsys: pytest.CaptureFixture[str], table: str, out: str
) -> None:
    assert score(server, folder / table, "--out", folder / out, "--rows", 8, "--concurrency", 3, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["resumed"], report["failed"]) == (100, 0, 2)
    assert "none.jpg" in report["errors"]["3"] and "visible characters" in report["errors"]["5"]
    rows = read(folder / out)
    assert [int(row["id"]) for row in rows] == list(range(1, 101))
    assert {row["label"] for row in rows} == {"given"}
    bad = [i for i, row in enumerate(rows, 1) if row.get("error")]
    assert bad == [3, 5]
    assert all(row["predicted_label"] and int(row["version"]) == 3 for i, row in enumerate(rows, 1) if i not in bad)
    assert list(folder.glob("*.part")) == [] and list(folder.glob(".*")) == []


def test_a_killed_run_is_resumed_and_asks_about_no_row_twice(server: FakeServer, folder: Path) -> None:
    out = folder / "out.csv"
    server.on_predict = lambda request, context: time.sleep(0.05)
    command = [sys.executable, "-m", "duoserve", "score", str(folder / "pairs.csv"), "--out", str(out)]
    command += ["--server", server.address, "--model", "pairs", "--rows", "2", "--concurrency", "1"]
    part = folder / "out.csv.part"
    with subprocess.Popen(command) as process:
        while not part.exists() or part.read_bytes().count(b"\n") < 20:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    done = part.read_bytes().count(b"\n") - 1
    with part.open("ab") as file:
        file.write(b'{"id": "half a li')
    server.on_predict = lambda request, context: None
    asked = len(server.predictions())
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    report = json.loads(again.stdout)
    assert (report["rows"], report["resumed"]) == (100, done)
    assert len(server.predictions()) - asked <= (100 - done + 1) // 2 + 2  # of rows that were not in the part
    assert [int(row["id"]) for row in read(out)] == list(range(1, 101))


def test_a_part_of_another_run_is_refused(server: FakeServer, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out.csv.part").write_text('{"table": "other"}\n')
    assert score(server, folder / "pairs.csv", "--out", folder / "out.csv") == 2
    assert "another run's, or a damaged one (remove it to start again)" in capsys.readouterr().err


@pytest.mark.parametrize("part", [b"\xff\n", b"%s\nno row\n", b"%s\n\xff\n", b"%s\n1\n"])
def test_a_damaged_part_is_refused(
    server: FakeServer, folder: Path, capsys: pytest.CaptureFixture[str], part: bytes
) -> None:
    (folder / "new.csv").write_text("picture,text\none.jpg,words\n")
    assert score(server, folder / "new.csv", "--out", folder / "out.csv") == 1
    path = folder / "out.csv.part"  # has its head only
    path.write_bytes(part.replace(b"%s\n", path.read_bytes()))
    assert score(server, folder / "new.csv", "--out", folder / "out.csv") == 2
    assert "(remove it to start again)" in capsys.readouterr().err


def test_a_second_run_at_the_same_time_is_refused(
    server: FakeServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (server, folder / "pairs.csv", "--out", folder / "out.csv")
    second: list[int] = []

    def overlap(request: Any, context: Any) -> None:
        if not second:
            second.append(score(*arguments))

    server.on_predict = overlap
    assert (score(*arguments), second) == (0, [2])
    assert "Received: another run writes it" in capsys.readouterr().err
    assert len(read(folder / "out.csv")) == 100


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_answers_can_be_scored_again(
    server: FakeServer, folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """What an answer adds is of this run, also in a row that fails now."""
    assert score(server, folder / "pairs.csv", "--out", folder / name) == 0
    text = (folder / name).read_text()
    (folder / f"old-{name}").write_text(text.replace("one.jpg", "gone.jpg", 1))
    capsys.readouterr()
    assert score(server, folder / f"old-{name}", "--out", folder / name, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["failed"], set(report["errors"])) == (3, {"1", "3", "5"})
    rows = read(folder / name)
    assert not rows[0].get("predicted_label") and not rows[0].get("version") and "gone.jpg" in rows[0]["error"]
    assert rows[1]["predicted_label"] and not rows[1].get("error")


@pytest.mark.parametrize(
    ("table", "content", "out", "said"),
    [
        ("t.txt", "", "out.csv", "to end in .csv, .jsonl, .parquet"),
        ("t.csv", "image,text\n", "out.xlsx", "to end in .csv, .jsonl, .parquet"),
        ("t.csv", None, "out.csv", "a readable table"),
        ("t.csv", "a,b\n1,2\n", "out.csv", "columns image (or audio) and text. Received: a, b"),
        ("t.csv", b"image,text\n\xff,a\n", "out.csv", "a readable table"),
        ("t.jsonl", '{"image": "a"\n', "out.csv", "line 1"),
        ("t.parquet", "no parquet", "out.csv", "Expected a Parquet file"),
        ("t.csv", "image,text\n", "none/out.csv", "--out to be a file that can be written"),
    ],
)
def test_unreadable_and_unwritable_files_are_named(
    server: FakeServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    table: str,
    content: str | bytes | None,
    out: str,
    said: str,
) -> None:
    if content is not None:
        (tmp_path / table).write_bytes(content.encode() if isinstance(content, str) else content)
    assert score(server, tmp_path / table, "--out", tmp_path / out) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize(
    ("header", "options", "said"),
    [
        ("image,text", ("--model", "piars"), "piars"),
        ("image,text", ("--version", "7"), "7"),
        ("picture,text", (), "no image"),
    ],
)
def test_what_every_row_would_get_ends_the_run_before_any_answer(
    server: FakeServer, folder: Path, capsys: pytest.CaptureFixture[str], header: str, options: list[str], said: str
) -> None:
    (folder / "two.csv").write_text(f"{header}\n" + "one.jpg,words\n" * 2)
    out = folder / "out.csv"
    assert score(server, folder / "two.csv", "--out", out, *options) == 1
    assert said in capsys.readouterr().err and not out.exists()
    assert (folder / "out.csv.part").read_text().count("\n") == 1, "nothing but its head"


def test_a_server_that_is_away_for_a_moment_costs_no_row(server: FakeServer, folder: Path) -> None:
    faults = iter([None, *["full"] * 9])

    def refuse(request: Any, context: Any) -> None:
        if next(faults, None):
            context.abort(*FULL)

    server.on_predict = refuse
    assert score(server, folder / "pairs.csv", "--out", folder / "out.jsonl", "--concurrency", 1) == 0
    assert [row for row in read(folder / "out.jsonl") if "error" in row and row["id"] not in "35"] == []


def test_a_rollout_that_outruns_a_request_costs_no_row(server: FakeServer, folder: Path) -> None:
    server.on_predict = Restless(server)
    out = folder / "out.jsonl"
    with Client(server.address, model="pairs", label="stable", send="tensors") as client:
        report = Scoring(client=client, table=folder / "pairs.jsonl", out=out, identity="test", concurrency=1).run()
    assert (report.rows, report.failed) == (100, 2) and server.on_predict.refused == 7


def test_one_that_stays_away_ends_the_run_which_can_be_resumed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--server", "127.0.0.1:1", "--model", "pairs", "--timeout", "1", "--patience", "1"]
    assert main(["score", str(folder / "pairs.csv"), "--out", str(folder / "out.csv"), *arguments]) == 1
    assert "ServerUnavailable" in capsys.readouterr().err
    assert (folder / "out.csv.part").exists()
