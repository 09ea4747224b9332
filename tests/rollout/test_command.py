"""The command line: exit codes, JSON, the lock, the settings, and the signature policy."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from duoserve.artifact.signing import sign_folder
from serving.rollout import Refused, Settings, SettingsError, Signatures, cli, read_settings
from serving.rollout.errors import Busy
from serving.rollout.storage.entries import entry
from serving.rollout.storage.files import ConfigFile, FileHistory
from tests.export.test_signing import make_key
from tests.rollout import models
from tests.rollout.site import CONFIG, Site

ROOT = Path(__file__).parents[2]


def run(site: Site, *arguments: str) -> int:
    return cli.main([*arguments, "--settings", site.settings_file()])


def test_status_shows_each_replica_and_what_is_out_of_sync(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(site, "status") == 0
    shown = capsys.readouterr().out
    assert all(replica.address in shown for replica in site.replicas)
    assert "in sync" in shown
    unknown = 'version_labels { key: "other" value: 9 }'  # no server follows that
    site.write(site.config.read_text().replace("version_labels", f"{unknown} version_labels"))
    assert run(site, "status", "--json") == 6
    told = json.loads(capsys.readouterr().out)
    assert any("label other: expected version 9" in one["what"] for one in told["out_of_sync"])


def test_exit_codes_and_json_of_a_refusal(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(site, "promote", "2", "--json") == 4
    told = json.loads(capsys.readouterr().out)
    assert (told["error"], told["reason"]) == ("Refused", "not-available")
    with pytest.raises(SystemExit) as ended:
        run(site, "canary", "eight")
    assert ended.value.code == 2
    assert cli.main(["status", "--settings", str(site.config)]) == 2


def test_exit_code_and_json_of_a_stop(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(site, "run", str(models.WORSE), "--json") == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["error"], told["step"], told["undone"]) == ("Stopped", "check", True)
    assert run(site, "history") == 0
    assert "stopped, check, rolled back" in capsys.readouterr().out


def test_a_second_operator_is_refused_while_the_first_is_at_work(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    program = """
        import pathlib, sys, time
        from serving.rollout.storage.files import FileLock
        with FileLock(pathlib.Path(sys.argv[1])).held("bob@there", "run 9 of pets"):
            print("held", flush=True)
            time.sleep(60)
    """
    lock = site.config.parent / ".rollout" / "models.config.lock"
    lines = "\n".join(line.removeprefix(" " * 8) for line in program.splitlines())
    with subprocess.Popen([sys.executable, "-c", lines, lock], cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            before = site.config.read_text()
            assert run(site, "canary", "2") == 5
            assert "bob@there" in capsys.readouterr().err
            assert run(site, "status") == 0  # looking is free
            assert site.config.read_text() == before
        finally:
            other.kill()
        other.wait()  # the lock ends with its holder
        assert run(site, "rollback") == 0


def test_an_edit_over_another_edit_is_refused_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_bytes(b"one\r\n")
    path.chmod(0o640)
    target = ConfigFile(path)
    seen = target.read()
    assert seen == "one\r\n"
    path.write_bytes(b"by hand\n")
    with pytest.raises(Busy):
        target.write("two\n", seen)
    assert path.read_bytes() == b"by hand\n"
    target.write("three\r\n", target.read())
    assert path.read_bytes() == b"three\r\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["models.config"]


def test_a_missing_config_is_a_clear_error_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "no" / "models.config"
    options = ["--model", "pets", "--config", str(config), "--replica", "127.0.0.1:1", "--store", str(tmp_path)]
    for command in (["status"], ["canary", "2"], ["rollback"]):
        assert cli.main([*command, *options]) == 1
        assert f"Expected {config} to be a readable text file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_symbolic_link_stays_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("one")
    (tmp_path / "models.config").symlink_to("real")
    target = ConfigFile(tmp_path / "models.config")
    target.write("two", target.read())
    assert (tmp_path / "models.config").is_symlink()
    assert (tmp_path / "real").read_text() == "two"


def test_a_truncated_line_of_the_history_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history.jsonl"
    history = FileHistory(path)
    history.append(entry("started", "run", "pets", version=8))
    with path.open("a") as file:
        file.write('{"event": "cu\n')
    history.append(entry("finished", "run", "pets", version=8))
    assert [record["event"] for record in history.read()] == ["started", "finished"]


def test_the_shipped_settings_file_shows_the_defaults() -> None:
    shipped = read_settings(ROOT / "serving/config/rollout.toml", {})
    usual = Settings(model=shipped.model, config=shipped.config, replicas=shipped.replicas, store=shipped.store)
    assert shipped == usual
    text = (ROOT / "serving/config/rollout.toml").read_text()
    fields = {
        field.name for kind in (Settings, *map(type, (usual.waits, usual.limits))) for field in dataclasses.fields(kind)
    }
    assert not [name for name in fields - {"state", "context"} if name not in text]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model = 1", "model"),
        ("modle = 'x'", "modle"),
        ("shadow = 'x.csv'", "shadow"),
        ("[limits]\nagreement = 'high'", "limits.agreement"),
        ("[limits]\nlatency_calls = 0", "limits.latency_calls"),
        ("clients = 'maybe'", "clients"),
        ("rehearsal = 'maybe'", "rehearsal"),
        ("replicas = []", "replicas"),
        ("loaded_versions = 1", "loaded_versions"),
        ("[signatures]\nrequired = true", "public_keys"),
        ("[labels]\ncanary = 'stable'", "labels"),
        ("[labels]\nstable = ''", "not empty"),
        ("[limits]\nagreement = 5", "limits.agreement"),
        ("[limits]\ndrift = 1.5", "limits.drift"),
        ("rehearsal = []", "rehearsal"),
        ("not toml", "TOML"),
    ],
)
def test_wrong_settings_are_a_clear_error(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rollout.toml"
    path.write_text(text)
    given = {"model": "pets", "config": "c", "replicas": ["a:1"], "store": tmp_path}
    overrides = {key: value for key, value in given.items() if f"{key} =" not in text}
    with pytest.raises(SettingsError, match=said):
        read_settings(path, overrides)


@pytest.mark.parametrize("command", ["plan", "run", "run --dry-run", "canary", "promote"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("inputs = 'no.csv'", "no.csv"),
        ("inputs = 'gap.csv'", "gone.png"),
        ("hook = ['./no-hook']", "Expected hook"),
        ("rehearsal = ['no-such-server']", "Expected rehearsal"),
        ("[tls]\nca = 'no.pem'", "TLS ca"),
        ("[tls]\nca = 'gap.csv'", "PEM"),
        ("[tls]\ncert = 'gap.csv'", "cert and key"),
    ],
)
def test_missing_parts_of_a_trial_are_reported_before_any_edit(
    tmp_path: Path, command: str, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gap.csv").write_text("image,text\ngone.png,a cat\n")
    config = tmp_path / "models.config"
    config.write_text(CONFIG.format(store=tmp_path))
    path = tmp_path / "rollout.toml"
    path.write_text(f"model = 'pets'\nconfig = 'models.config'\nreplicas = ['127.0.0.1:1']\nstore = '.'\n{text}")
    name, *options = command.split()
    assert cli.main([name, "2", *options, "--settings", str(path)]) == 2
    assert said in capsys.readouterr().err
    assert config.read_text() == CONFIG.format(store=tmp_path)


def test_the_path_of_a_hook_is_relative_to_the_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "rollout.toml"
    path.write_text("model = 'm'\nconfig = 'c'\nreplicas = ['a:1']\nstore = '.'\nhook = ['./check.sh', './as-it-is']")
    assert read_settings(path, {}).hook == (str(tmp_path / "check.sh"), "./as-it-is")


def test_an_unsigned_or_wrongly_signed_version_is_refused_by_policy(site: Site, tmp_path: Path) -> None:
    private, public = make_key(tmp_path, "release")
    _, other = make_key(tmp_path, "other")
    folder = tmp_path / "store" / models.MODEL / str(models.GOOD)
    shutil.copytree(site.store / models.MODEL / str(models.GOOD), folder)
    strict = Signatures(required=True, public_keys=(public,))
    for policy, refused in ((strict, True), (Signatures(public_keys=(public,)), False)):
        with site.rollout(store=tmp_path / "store", signatures=policy, dry_run=True) as rollout:
            if refused:
                with pytest.raises(Refused) as error:
                    rollout.canary(models.GOOD)
                assert error.value.reason == "signature"
            else:
                rollout.canary(models.GOOD)
    sign_folder(folder, private)
    with site.rollout(store=tmp_path / "store", signatures=strict, dry_run=True) as rollout:
        rollout.canary(models.GOOD)
    # A signature that is there has to fit, required or not.
    with site.rollout(store=tmp_path / "store", signatures=Signatures(public_keys=(other,)), dry_run=True) as rollout:
        with pytest.raises(Refused) as error:
            rollout.canary(models.GOOD)
        assert error.value.reason == "signature"
