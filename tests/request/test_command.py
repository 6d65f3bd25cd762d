"""All commands begin and end alike, however they are started and stopped."""

import gc
import io
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
import tomllib
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import PATIENCE, TINY, environment, execute, python

from recot import __main__ as entry
from recot import compare, methods, recommend, restore, run, suspects, tables, tune
from recot.artifacts import load, workers
from recot.request import command
from recot.request.errors import RequestError

MAINS = {"run": run.main, "tables": tables.main, "tune": tune.main, "recommend": recommend.main,
         "compare": compare.main, "methods": methods.main, "suspects": suspects.main}
SPEC = """
    title: A toy paper
    seeds: [0]
    data: {planted: Planted}
    artifacts:
      table1: {kind: statistics, title: Statistics, data: [planted], metrics: [users]}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a finished run and a paper of its own, for all that these commands read and write; and its key."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "experiments" / "papers").mkdir(parents=True)
    (folder / "experiments" / "toy.yaml").write_text(textwrap.dedent(SPEC))
    (folder / "experiments" / "papers" / "toy.csv").write_text(
        "paper,artifact,kind,dataset,model,variant,metric,k,value,std,note\n")
    key = execute(folder / "runs", "model=popularity")["key"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "EXPERIMENTS", folder / "experiments")
        patch.setenv("RECOT_RUNS", str(folder / "runs"))
        patch.setenv("RECOT_CACHE", str(folder / "cache"))
        load.papers.cache_clear()  # another test of this process may have asked for those of the repository
        yield folder, key
    load.papers.cache_clear()


def words(name, key, wrong=False):
    """What is typed after the name of a command: something it can do at once, or that none can."""
    plain = [*TINY, "model=popularity"]
    return {"run": [*plain, "sed=1"] if wrong else plain,
            "tables": ["--table", "tabel1"] if wrong else ["--list"],
            "tune": [*TINY, "model=itemknn", "model.k=5,10", "--trials", "0" if wrong else "1"],
            "recommend": [key, "--k", "0" if wrong else "200"],
            "compare": [key, "--metric", "recal@20" if wrong else "recall@20"],
            "methods": ["sclrc" if wrong else "sclrec"],
            "suspects": [key, "--k", "0" if wrong else "400"]}[name]


@dataclass
class Ended:
    """What a shell sees of a command."""

    code: int
    out: bytes
    err: str


def reopened(number, mode, encoding):
    """The stream that Python would begin with."""
    try:
        os.fstat(number)
    except OSError:
        return None
    return open(number, mode, encoding=encoding, closefd=False)


def started(folder, name, typed, files, encoding):
    """In a child: the command as the interpreter would begin it, and its exit code as it would end."""
    for number, file in enumerate(files):
        if file is None:
            os.close(number)
        else:
            os.dup2(file, number)
    os.chdir(folder)
    sys.argv = [f"recot.{name}", *typed]
    for stream, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        opened = reopened(number, mode, encoding)
        setattr(sys, stream, opened)
        setattr(sys, f"__{stream}__", opened)
    logging.getLogger().handlers.clear()
    for number in command.SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        (entry.main if name == "script" else MAINS[name])()
    except SystemExit as stop:
        sys.stdout.flush()
        return stop.code
    return 99


def forked(folder, name, typed, *, out="file", err="file", stdin="null", encoding="utf-8", stop=None):
    """A command in a copy of this process, which has imported everything, so that it costs no start.

    ``out`` and ``err``: file, full, closed, or gone, a pipe that nobody reads. ``stop``: the signal it is sent once it
    has written a byte into the descriptor of the variable READY.
    """
    nowhere, said, told = os.open(os.devnull, os.O_RDWR), os.memfd_create("err"), os.memfd_create("out")
    unread, gone = os.pipe()
    os.close(unread)
    ready, tell = os.pipe()
    streams = {"file": told, "full": os.open("/dev/full", os.O_WRONLY), "closed": None, "gone": gone, "null": nowhere}
    child = os.fork()
    if not child:
        try:
            files = (streams[stdin], streams[out], said if err == "file" else streams[err])
            os.environ["READY"] = str(tell)
            os._exit(started(folder, name, typed, files, encoding))
        except BaseException:
            os.write(said, traceback.format_exc().encode())
        os._exit(98)
    if stop:
        assert os.read(ready, 1)
        time.sleep(0.05)
        os.kill(child, stop)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    shown = {}
    for file in (said, told):
        os.lseek(file, 0, os.SEEK_SET)
        with open(file, "rb", closefd=False) as stream:
            shown[file] = stream.read()
    for file in {nowhere, said, told, gone, ready, tell, streams["full"]}:
        os.close(file)
    return Ended(code, shown[told], shown[said].decode())


@pytest.mark.parametrize("name", MAINS)
def test_a_wrong_request_is_one_line_and_exit_code_2(place, name):
    for err, shown in (("file", 1), ("closed", 0), ("full", 0), ("gone", 0)):
        ended = forked(place[0], name, words(name, place[1], wrong=True), err=err)
        assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, b"", shown), ended
        assert ended.err.startswith("refused: " * shown)


WORKS = {"run": b"record: ", "tables": b"toy ", "tune": b"best: ", "recommend": b"user,place,item,score\n",
         "compare": b"1 method on planted", "methods": b"SCLRec, Zhuang",
         "suspects": b"user,item,share,rank,of,margin,score,noisy\n"}
ANSWERS = {"tables": 1, "recommend": 1, "compare": 1, "methods": 1, "suspects": 1}
"""Commands that make nothing but their answer, and their exit code where it has nowhere to go."""


@pytest.mark.parametrize("name", MAINS)
@pytest.mark.parametrize("streams", [{}, {"stdin": "closed"}, {"err": "closed"}, {"err": "full"}, {"err": "gone"},
                                     {"stdin": "closed", "err": "closed"}, {"encoding": "ascii"}],
                         ids=lambda streams: "+".join(map("=".join, streams.items())) or "as usual")
def test_a_command_does_its_work_whatever_it_was_started_with(place, name, streams):
    ended = forked(place[0], name, words(name, place[1]), **streams)
    assert ended.code == 0 and WORKS[name] in ended.out, ended
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("name", MAINS)
@pytest.mark.parametrize(("out", "code", "said"), [
    ("gone", {}, ""),
    ("closed", ANSWERS, "standard output is closed, so the answer has nowhere to go"),
    ("full", ANSWERS, "(No space left on device)")])
def test_what_was_asked_for_fails_with_the_output_and_what_is_done_does_not(place, name, out, code, said):
    ended = forked(place[0], name, words(name, place[1]), out=out)
    assert ended.code == code.get(name, 0), ended
    assert "Traceback" not in ended.err and "BrokenPipe" not in ended.err
    if code.get(name):
        assert said in ended.err
    if out == "full" and not code.get(name):
        assert "the work is done, but its result could not be printed (No space left on device)" in ended.err


def hang(*given, **named):
    """Say that the work has begun, and never end it."""
    os.write(int(os.environ["READY"]), b".")
    time.sleep(86400)


def let_all_hang(monkeypatch):
    """Put :func:`hang` in place of the work of every command."""
    monkeypatch.setattr("recot.record.experiment.run", hang)
    monkeypatch.setattr(restore, "restore", hang)
    monkeypatch.setattr(tables, "regenerate", hang)
    monkeypatch.setattr(tune, "tune", hang)
    monkeypatch.setattr("recot.artifacts.comparison.compare", hang)
    monkeypatch.setattr("recot.pages.methods.page", hang)


@pytest.mark.parametrize("name", MAINS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_each_command_with_one_line_and_its_own_code(place, name, number, code, monkeypatch):
    let_all_hang(monkeypatch)
    ended = forked(place[0], name, words(name, place[1]), stop=number)
    assert ended.code == code and ended.err.startswith("stopped; ") and len(ended.err.splitlines()) == 1, ended


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
@pytest.mark.parametrize("moment", ["recot.record.outputs.save_history", "recot.record.attempt.average",
                                    "recot.data.planted.Planted.load"], ids=["training", "afterwards", "before"])
def test_a_run_that_is_stopped_at_any_moment_has_a_record_that_says_so(place, tmp_path, moment, number, code,
                                                                       monkeypatch):
    monkeypatch.setattr(moment, hang)
    ended = forked(tmp_path, "run", [*TINY, "model=bprmf", f"paths.runs={tmp_path}"], stop=number)
    assert ended.code == code and ended.err.splitlines()[-1].startswith("stopped; the same command goes on"), ended
    record = json.loads(next(tmp_path.glob("*/record.json")).read_text())
    assert record["status"] == "interrupted"


def test_what_is_ignored_from_outside_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with command.stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_waits_until_what_would_swallow_it_is_over():
    swallowed = True
    with pytest.raises(command.Stopped), command.stoppable(), command.held():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            swallowed = False
    assert not swallowed


@pytest.mark.parametrize("collecting", [True, False])
def test_no_garbage_is_collected_during_imports_and_afterwards_as_before(collecting):
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        with command.held():
            within = gc.isenabled()
        assert (within, gc.isenabled()) == (False, collecting)
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("number", sorted(command.SIGNALS))
def test_a_worker_leaves_signals_to_its_parent(number, monkeypatch):
    """Or what reaches a whole group would leave a failed record, written by the worker that died of it."""
    class Closed:
        def recv(self):
            os.kill(os.getpid(), number)
            raise EOFError

    class Parent:
        sentinel, _ = os.pipe()

    monkeypatch.setattr(workers.multiprocessing, "parent_process", Parent)
    before = {each: signal.getsignal(each) for each in command.SIGNALS}
    try:
        assert workers.serve(Closed(), print) is None
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@pytest.mark.parametrize("line", ["loss.tua=1 >&-", "loss.tua=1 2>&-", "loss.tua=1 <&- >&- 2>&-"])
def test_an_interpreter_without_streams_refuses_as_well(tmp_path, line):
    done = subprocess.run(["sh", "-c", f"exec {sys.executable} -m recot.run {line}"], cwd=tmp_path,
                          env=environment(tmp_path), stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("refused: loss.tua: ") or "2>&-" in line


@pytest.mark.parametrize("name", MAINS)
def test_a_failure_names_its_type_and_where_more_is(place, name, monkeypatch):
    def fail(*given, **named):
        raise OSError("no luck\nat all")

    monkeypatch.setattr("recot.record.experiment.run", fail)
    monkeypatch.setattr(restore, "restore", fail)
    monkeypatch.setattr(tables, "regenerate", fail)
    monkeypatch.setattr(tune, "tune", fail)
    monkeypatch.setattr("recot.artifacts.comparison.compare", fail)
    monkeypatch.setattr("recot.pages.methods.page", fail)
    ended = forked(place[0], name, words(name, place[1]))
    assert (ended.code, ended.err) == (1, "OSError: no luck at all\n(RECOT_TRACEBACK=1 shows where)\n")


def test_a_failed_run_names_its_record_where_there_is_one(place, tmp_path):
    ended = forked(tmp_path, "run", [*TINY, "model=popularity", "noise=flip", "noise.ratio=2",
                                     f"paths.runs={tmp_path}"])
    file = next(tmp_path.glob("*/record.json"))
    assert ended.code == 1 and ended.err.endswith(f"(RECOT_TRACEBACK=1 shows where; {file} holds it too)\n"), ended


@pytest.mark.parametrize("name", MAINS)
def test_a_folder_that_is_gone_is_named(place, name, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ended = forked(".", name, words(name, place[1]))
    assert ended.code == 2
    assert ended.err == "refused: the folder that this command was typed in is gone; change to another one\n"


@pytest.mark.parametrize(("name", "typed", "said"), [
    ("tables", ["--jobs", "x"], "argument --jobs: invalid int value: 'x'"),
    ("tune", ["model=itemknn", "--trails", "3"], "--trials"),
    ("recommend", ["k", "--kk", "3"], "unrecognized arguments: --kk"),
    ("recommend", ["k", "--k", "ten"], "argument --k: invalid int value: 'ten'"),
    ("suspects", ["k", "--folds", "few"], "argument --folds: invalid int value: 'few'")])
def test_a_wrong_option_is_refused_in_one_line(place, name, typed, said):
    ended = forked(place[0], name, typed)
    assert ended.code == 2 and ended.err.startswith("refused: ") and said in ended.err
    assert f"python -m recot.{name} --help says what can be given" in ended.err and len(ended.err.splitlines()) == 1


def test_broken_yaml_of_the_user_is_a_wrong_request_that_names_file_and_line(place, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("model: [1,\n")
    ended = forked(place[0], "run", ["--config-dir", str(tmp_path), "model=mine"])
    assert ended.code == 2 and len(ended.err.splitlines()) == 1 and ended.err.startswith("refused: "), ended
    assert "mine.yaml" in ended.err and "line 2" in ended.err


@pytest.mark.parametrize(("text", "shown"), [
    ("plain é 用户 😀\nnext", "plain é 用户 😀\nnext"), ("\x1b[31mred", "\\x1b[31mred"),
    ("a\rb\tc\x07", "a\\rb\\tc\\x07"),
    ("abc\u202efdp", "abc\\u202efdp"), ("\u2066x\u200f", "\\u2066x\\u200f"), ("a\u2028b\x85", "a\\u2028b\\x85"),
    ("\x9b31m", "\\x9b31m")])
def test_what_steers_a_terminal_is_shown_and_not_done(text, shown):
    assert command.visible(text) == shown
    assert command.Plain("%(message)s").format(logging.makeLogRecord({"msg": text})) == shown


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


def test_what_is_printed_is_escaped_on_a_terminal_only(monkeypatch, capsys):
    command.tell("u\x1b[2J,1\n")
    assert capsys.readouterr().out == "u\x1b[2J,1\n"
    monkeypatch.setattr(sys, "stdout", Terminal())
    command.tell("u\x1b[2J,1\n")
    assert sys.stdout.getvalue() == "u\\x1b[2J,1\n"


def test_letters_that_cannot_be_printed_are_said_to_be_escaped(monkeypatch, capsys):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace"))
    command.tell("\u017dlu\u0165\n")
    assert raw.getvalue() == b"\\u017dlu\\u0165\n"
    assert "ascii has no codes for some letters, which are printed as escapes; PYTHONIOENCODING=utf-8" in (
        capsys.readouterr().err)


@pytest.mark.parametrize(("before", "after"), [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5")])
def test_threads_spin_briefly_where_nothing_else_is_said(monkeypatch, before, after):
    environment = dict(before)
    monkeypatch.setattr(os, "environ", environment)
    command.quiet_threads()
    assert environment == {"GOMP_SPINCOUNT": after}


def test_a_parser_refuses_and_does_not_exit():
    with pytest.raises(RequestError, match="unrecognized arguments: --nothing; python -m recot.tables --help says"):
        tables.arguments().parse_args(["--nothing"])


def shape(name, *typed):
    """What the script makes of words: the module that it starts and the words that this gets."""
    started_with = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"recot.{name}.main", lambda: started_with.append(sys.argv))
        patch.setattr(sys, "argv", ["/bin/recot", *typed])
        entry.main()
    return started_with


@pytest.mark.parametrize("name", MAINS)
def test_a_sub_command_of_the_script_is_the_module_with_the_rest_of_the_words(name):
    assert {*MAINS, "page"} == {*entry.COMMANDS}  # page composes all presets; tests/pages/test_site.py asks it, once
    assert shape(name, name, "a=1", "--b", name) == [[f"recot {name}", "a=1", "--b", name]]


@pytest.mark.parametrize("typed", [[], ["model=clrec", "-m"], ["-m", "seed=0,1"], ["~tuned"], ["+a.b=1", "run"],
                                   ["--cfg", "job"], ["--config-dir", "my_conf"]])
def test_other_words_are_those_of_a_run(typed):
    assert shape("run", *typed) == [["recot run", *typed]]


@pytest.mark.parametrize(("typed", "code", "said"), [
    (["--help"], 0, ""), (["-h"], 0, ""),
    (["tabels"], 2, "refused: recot has no sub-command 'tabels'. Did you mean 'tables'?\n"),
    (["tables", "--jobs", "x"], 2,
     "refused: argument --jobs: invalid int value: 'x'; recot tables --help says what can be given\n")])
def test_the_script_helps_and_refuses_as_its_commands_do(place, typed, code, said):
    ended = forked(place[0], "script", typed)
    assert (ended.code, ended.err) == (code, said)
    assert ended.out.decode() == entry.HELP * (not code) and all(f"  {name}" in entry.HELP for name in MAINS)


@pytest.mark.parametrize(("out", "code"), [("gone", 0), ("full", 1), ("closed", 1)])
def test_the_help_of_the_script_fails_with_the_output(place, out, code):
    assert forked(place[0], "script", ["--help"], out=out).code == code


@pytest.mark.parametrize("name", MAINS)
def test_a_sub_command_does_what_its_module_does(place, name):
    ended = forked(place[0], "script", [name, *words(name, place[1])])
    assert ended.code == 0 and WORKS[name] in ended.out, ended


@pytest.mark.parametrize("name", MAINS)
def test_a_signal_ends_a_sub_command_with_its_own_code(place, name, monkeypatch):
    let_all_hang(monkeypatch)
    ended = forked(place[0], "script", [name, *words(name, place[1])], stop=signal.SIGINT)
    assert ended.code == 130 and ended.err.startswith("stopped; ")


def test_the_help_of_the_script_loads_no_hydra(tmp_path):
    code = ("import runpy, sys, atexit; atexit.register(lambda: sys.stderr.write(str('hydra' in sys.modules))); "
            "sys.argv = ['recot', '--help']; runpy.run_module('recot', run_name='__main__')")
    shown = python(tmp_path, "-c", code)
    assert (shown.stdout, shown.stderr) == (entry.HELP, "False")


def test_the_installed_script_is_the_entry_point():
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["recot"].partition(":")
    assert (module, getattr(entry, function)) == (entry.__name__, entry.main)


@pytest.mark.parametrize("name", ["tables", "tune", "recommend", "compare", "methods", "suspects"])
def test_help_loads_no_torch(tmp_path, name):
    code = ("import runpy, sys, atexit; atexit.register(lambda: sys.stdout.write(str('torch' in sys.modules))); "
            f"sys.argv = ['x', '--help']; runpy.run_module('recot.{name}', run_name='__main__')")
    shown = python(tmp_path, "-c", code)
    assert shown.returncode == 0 and shown.stdout.startswith("usage: ") and shown.stdout.endswith("False")
