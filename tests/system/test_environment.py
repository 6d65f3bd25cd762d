"""No value of the environment in a record, a key, a message or a tracker; places keep the name of what they need."""

import http.server
import json
import logging
import threading

import pytest
from commands import TINY

from recot.record import experiment
from recot.request import keys
from recot.request.compose import composed, explain
from recot.request.errors import RequestError
from recot.system.environment import hidden, looked_up, secret_in, shown

SECRET = "s3cr3t/tök en"


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.delenv("RECOT_DATA", raising=False)
    monkeypatch.setattr("recot.system.environment.LOOKED_UP", {})
    return SECRET


def files_with(folder, text):
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


@pytest.fixture
def server(tmp_path):
    """A folder of this machine on the web, with the paths that were asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802  # the name is the library's
            asked.append(self.path)
            found = "good" in self.path
            self.send_response(200 if found else 401)
            self.end_headers()
            self.wfile.write("".join(f"{u}\t{u + i}\t5\t{i}\n" for u in range(30) for i in range(6)).encode())

        def log_message(self, *given): ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}", asked
        running.shutdown()


WORDS = ("trainer=smoke", "model=popularity", "data=ml100k", "data.files={u.data: null}", "data.expect=null",
         "metrics=[hr@3]", "data.root=null")


@pytest.mark.parametrize("url", ["http://user:${oc.env:TOKEN}@HOST/good", "http://${oc.env:TOKEN}@HOST/good",
                                 "http://HOST/good/${oc.env:TOKEN}", "http://HOST/${oc.env:GOOD,good}"])
def test_a_run_that_downloads_with_a_secret_leaves_its_name_only(url, token, server, tmp_path, monkeypatch, caplog,
                                                                        capsys):
    monkeypatch.setenv("TOKEN", "s3cr3t")
    monkeypatch.setenv("RECOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECOT_RUNS", str(tmp_path / "runs"))
    caplog.set_level(logging.INFO)
    place, asked = server
    words = (*WORDS, f"data.url={url.replace('HOST', place)}")
    config, choices = composed(*words)
    record = experiment.run(config, choices, " ".join(words))
    assert asked and record["config"]["data"]["url"] == url.replace("HOST", place)
    monkeypatch.setenv("TOKEN", "another")
    assert keys.key(composed(*words)[0], "") == keys.key(config, "")  # of one run, whatever the secret
    assert not files_with(tmp_path, "s3cr3t") and "s3cr3t" not in caplog.text + json.dumps(record)
    assert "s3cr3t" not in "".join(capsys.readouterr())


def test_a_download_that_fails_says_so_without_the_secret(token, server, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("RECOT_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.INFO)
    place, _ = server
    for host in (place, "127.0.0.1:9"):
        for url in (f"http://user:${{oc.env:TOKEN}}@{host}/bad", f"http://{host}/bad?key=${{oc.env:TOKEN}}",
                    f"http://{host}/${{oc.env:TOKEN}}"):
            config, choices = composed(*WORDS, f'data.url="{url}"')
            with pytest.raises(ConnectionError, match="could not be downloaded") as raised:
                experiment.run(config, choices, "")
            said = explain(raised.value) + caplog.text + str(raised.value.__cause__)
            assert not any(form in said for form in ("s3cr3t", "t%C3%B6k", "tök"))


@pytest.mark.parametrize("word", [
    "loss.tau=${oc.env:TOKEN}", 'loss.tau="${oc.decode:${oc.env:TOKEN}}"', "loss.tau=${oc.env:ABSENT,0.3}",
    'seed="${oc.decode:${oc.env:TOKEN}}"', "metrics=[\"${oc.env:TOKEN}\"]", "protocol.monitor=x${oc.env:TOKEN}",
    "data.name=${oc.env:TOKEN}", "++data.name=${data.url}", "++data.folder=${.url}",
    "++data.files={a: ${oc.env:TOKEN}}",
    "plugins=[\"${oc.env:TOKEN}\"]", "trainer.device=${oc.env:TOKEN}"])
def test_a_reference_where_a_record_says_what_was_run_is_refused(word, token):
    with pytest.raises(RequestError, match="type the value|comes from a preset") as raised:
        composed(*WORDS, "model=sclrec", "data.url=http://a/${oc.env:TOKEN}", word)
    assert "s3cr3t" not in str(raised.value)


def test_a_reference_within_a_reference_is_refused(token):
    with pytest.raises(Exception, match="is not a name and a plain default; type the value") as raised:
        composed(*WORDS, 'data.url="${oc.env:${oc.env:TOKEN}}"')
    assert "s3cr3t" not in explain(raised.value)


@pytest.mark.parametrize("word", ["data.root", "data.cache", "paths.cache", "data.manual", "paths.runs",
                                  "logger.project"])
def test_a_place_keeps_the_name_of_what_it_needs(word, tmp_path, monkeypatch):
    secret = tmp_path / "s3cr3t"
    (secret / "ml-100k").mkdir(parents=True)
    (secret / "ml-100k" / "u.data").write_text("".join(f"{u}\t{u + i}\t5\t{i}\n" for u in range(30) for i in range(6)))
    monkeypatch.setenv("PLACE", str(secret))
    for name in ("runs", "cache"):
        monkeypatch.setenv(f"RECOT_{name.upper()}", str(tmp_path / name))
    words = [*WORDS, "logger=wandb", "logger.mode=disabled", f"data.root={tmp_path / 's3cr3t'}"]
    words += [f"++{word}=${{oc.env:PLACE}}/x" if word != "data.root" else f"{word}=${{oc.env:PLACE}}"]
    sent = []
    monkeypatch.setattr("recot.record.trackers.Wandb.start", lambda self, *given: sent.append((self.project, given)))
    monkeypatch.setattr("recot.record.trackers.Wandb.log", lambda *given: None)
    monkeypatch.setattr("recot.record.trackers.Wandb.finish", lambda *given: None)
    config, choices = composed(*words)
    record = experiment.run(config, choices, "typed")
    if word == "data.root":
        assert record["places"] == {"data.root": "${oc.env:PLACE}"} and "s3cr3t" not in json.dumps(record)
    if word == "logger.project":
        assert sent[0][0] == f"{secret}/x"  # it works with the value
    assert len(sent) == 1 and str(secret / "x") not in str(sent[0][1][1])
    assert str(secret / "x") not in json.dumps(record) and record["status"] == "done"


@pytest.mark.parametrize("url", ["https://user:pw@host/x", "https://token@host/x", "https://host/x?key=pw",
                                 "https://host?key=pw"])
def test_a_secret_that_was_typed_is_refused_without_showing_it(url):
    with pytest.raises(RequestError, match=r"which the record would keep; put the secret into a variable") as raised:
        composed(*WORDS, f'data.url="{url}"')
    assert "pw" not in str(raised.value) and "token" not in str(raised.value)


def test_what_is_looked_up_is_hidden_again(monkeypatch):
    monkeypatch.setattr("recot.system.environment.LOOKED_UP", LOOKED_UP := {})
    monkeypatch.setenv("A_KEY", "a b/c")
    monkeypatch.delenv("NO_KEY", raising=False)
    assert looked_up({"x": ["${oc.env:A_KEY}!", 3, None]}) == {"x": ["a b/c!", 3, None]}
    assert looked_up("${oc.env:NO_KEY,null}") is None and looked_up("${oc.env:NO_KEY,d}/e") == "d/e"
    assert hidden("a b/c a%20b/c a%20b%2Fc") == "${oc.env:A_KEY} " * 2 + "${oc.env:A_KEY}"
    assert list(LOOKED_UP) == ["a b/c"]
    with pytest.raises(ValueError, match="names a variable that is not set; set NO_KEY, or type the value"):
        looked_up("${oc.env:NO_KEY}")


def test_urls_are_shown_without_users_passwords_and_queries():
    assert shown("at http://u:p@h/a?k=v (http://t@h/b)") == "at http://h/a (http://h/b)"
    assert shown("with url: /a?k=v (Caused by") == "with url: /a (Caused by"
    assert not any(map(secret_in, ("https://h/a", "http://u:${oc.env:T}@h/a", "http://h/?k=${oc.env:T}")))


def test_the_environment_of_recot_itself_is_what_it_was(monkeypatch, tmp_path):
    monkeypatch.setenv("RECOT_CACHE", str(tmp_path))
    assert composed(*TINY)[0]["paths"]["cache"] == composed("data=ml1m")[0]["data"]["cache"] == str(tmp_path)


@pytest.mark.parametrize("word", ["++data.path=\"r\udce9.csv\"", "++data.user=\"r\udce9\""])
def test_bytes_that_are_no_text_are_refused_before_anything_is_read(word):
    with pytest.raises(RequestError, match="has bytes that are not UTF-8; give it another name"):
        composed("data=csv", "data.path=x.csv", "model=popularity", word)
