"""`python -m export`: results, exit codes, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from export.cli import main
from export.publish.savedmodel import Published


def test_help_explains_every_command_without_loading_tensorflow() -> None:
    program = "import sys, export.cli as c\ntry: c.main(['--help'])\nfinally: print('tensorflow' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for command in ("data", "train", "compare", "export", "check", "list"):
        assert f"\n    {command} " in said
    assert said.endswith("False\n")


@pytest.mark.parametrize("command", ["data", "train", "compare", "export", "check", "list"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "usage: python -m export" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["export"],
        ["train", "x"],
        ["train", "x", "--out", "y", "--optional", "audio"],
        ["compare", "x", "--budget", "10"],
        ["compare", "x", "--budget", "0m"],
        ["export", "r", "--name", "n", "--version", "0"],
        ["check", "r", "--server-version", "newest"],
        ["no-such"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "two words"], "Expected a model name"),
        (["--name", "m", "--sign-key", "none.pem"], "none.pem to be an elliptic curve private key"),
        (["--name", "m", "--store", "file/store"], "file"),
    ],
)
def test_a_wrong_option_of_an_export_is_found_before_any_work(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main(["export", "--model", "no_such_module:build", "--store", "store", *arguments]) == 1
    message = capsys.readouterr().err
    assert said in message and "no_such_module" not in message


def test_check_passes_a_published_version(published: Published, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(published.path)]) == 0
    assert "All checks passed" in capsys.readouterr().out


def test_check_refuses_a_broken_one_and_says_why(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "assets.extra" / "card.json").unlink()
    assert main(["check", str(copied), "--json"]) == 1
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["passed"] is False
    failed = [check for check in outcome["checks"] if not check["passed"]]
    assert failed == [
        {
            "name": "files",
            "passed": False,
            "findings": ["assets.extra/card.json: in the checksums, not in the folder"],
        }
    ]


def test_list_shows_what_the_store_holds(published: Published, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(published.path.parents[1])
    assert main(["list", "--store", root]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["MODEL", "VERSION", "CREATED", "SIZE", "QUALITY", "DIGEST"]
    assert row.split()[:2] == ["pets", "1"]
    assert main(["list", "--store", root, "--name", "pets", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["version"], record["digest"]) == (1, published.spec.digest)


def test_list_shows_the_main_measure_of_any_kind_of_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"a": ("accuracy", 0.93), "b": ("mean_average_precision", 0.5), "c": ("r2", -0.25), "d": ("loss", 1.0)}
    for name, (figure, value) in figures.items():
        extra = tmp_path / name / "1" / "assets.extra"
        extra.mkdir(parents=True)
        (extra / "card.json").write_text(json.dumps({"training": {"metrics": {"loss": 2.0, figure: value}}}))
    assert main(["list", "--store", str(tmp_path)]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    for row, said in zip(
        rows, ("accuracy 93.0%", "mean average precision 0.500", "R² -0.250", "0.0 MB  -"), strict=True
    ):
        assert said in row
    assert main(["list", "--store", str(tmp_path), "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [each["measure"] for each in records] == ["accuracy", "mean_average_precision", "r2", None]
    assert [each["quality"] for each in records] == [0.93, 0.5, -0.25, None]


def test_list_finds_a_version_whose_folder_has_leading_zeros(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """007 is version 7 to the server, so it is to us."""
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "007").symlink_to(published.path)
    assert main(["list", "--store", str(tmp_path), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["version"], record["digest"]) == (7, published.spec.digest)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--store", "no/such"], "Expected no/such to be a folder with models. Received"),
        (["export", "no/such", "--name", "pets"], "no/such"),
        (["train", "no/such", "--out", "run"], "no/such"),
    ],
)
def test_a_missing_file_is_reported_with_exit_code_1(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert said in capsys.readouterr().err
    assert main([*arguments, "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["error"] and said in record["message"]


def test_an_error_of_the_system_names_the_file_and_the_reason(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, model = tmp_path / "models.config", published.path.parent
    assert main(["prune", "--config", str(missing), "--name", model.name, "--store", str(model.parent)]) == 1
    said = capsys.readouterr().err
    assert f"error: Expected {missing} to be read and written. Received: No such file or directory" in said
