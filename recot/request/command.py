"""How every command begins and ends: its streams, the signals that stop it, and one line and an exit code."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import re
import signal
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from recot.request.errors import RequestError

SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""Requests to end: Ctrl-C, a scheduler's or a system's, and that of a terminal that was closed."""


class Stopped(KeyboardInterrupt):
    """The process was asked to end. Its argument is the signal.

    A class of its own, since CPython ends by SIGINT in place of an exit code once a plain KeyboardInterrupt has passed
    through a string that is executed.
    """


class Parser(argparse.ArgumentParser):
    """A command line whose errors are refused like every other wrong request."""

    def error(self, message: str) -> NoReturn:
        """See :meth:`argparse.ArgumentParser.error`.

        Raises:
            RequestError: always.
        """
        raise RequestError(f"{message}; {self.prog} --help says what can be given")


class Plain(logging.Formatter):
    """Messages that cannot steer a terminal, whatever names and ids are in them."""

    def format(self, record: logging.LogRecord) -> str:
        """See :meth:`logging.Formatter.format`."""
        return visible(super().format(record))


def visible(text: str) -> str:
    """``text`` with escapes for what steers a terminal or turns the direction of writing; line ends stay."""
    return "".join(letter if letter == "\n" or unicodedata.category(letter) not in ("Cc", "Cf", "Zl", "Zp") else
                   letter.encode("unicode_escape").decode() for letter in text)


def program(name: str) -> str:
    """How a command was typed: ``recot tables``, or ``python -m recot.tables``."""
    return sys.argv[0] if sys.argv[0] == f"recot {name}" else f"python -m recot.{name}"


def carry_out(work: Callable[[], int], name: str, stopped: str) -> NoReturn:
    """Run a command and end the process.

    Args:
        work: what the command does; returns its exit code. name: of the logger whose messages the user sees.
        stopped: what becomes of the work if the user stops the command.

    Raises:
        SystemExit: always. 0: done; or the reader of the output, such as head, has seen enough. 1: the work failed.
            2: the request was wrong. 129, 130, 143: SIGHUP, SIGINT or SIGTERM stopped the command.
        Exception: what made the work fail, if RECOT_TRACEBACK is set.
    """
    open_streams()
    quiet_threads()
    quiet_srun()
    messages = logging.StreamHandler(sys.stderr)
    messages.setFormatter(Plain("%(message)s"))
    logging.basicConfig(handlers=[messages])
    logging.getLogger(name).setLevel(logging.INFO)
    try:
        with stoppable():
            in_a_folder()
            code = work()
            sys.stdout.flush()
    except BrokenPipeError:
        code = 0
    except KeyboardInterrupt as error:
        number = next((cause.args[0] for cause in causes(error) if isinstance(cause, Stopped)), signal.SIGINT)
        say(f"stopped; {stopped}")
        code = 128 + number
    except Exception as error:
        code = explained(error)
    finally:
        let_go()
    gc.freeze()  # or the interpreter looks for garbage among all that was imported before it ends: .4 s of CPU
    raise SystemExit(code)


def explained(error: Exception) -> int:
    """Say in one line what went wrong, and return the exit code.

    Raises:
        Exception: ``error``, if the request was right and RECOT_TRACEBACK is set.
    """
    from recot.request.compose import explain

    if refuses(error):
        say(f"refused: {explain(error)}")
        return 2
    if os.environ.get("RECOT_TRACEBACK"):
        raise error
    also = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    say(f"{type(error).__name__}: {explain(error)}")
    say(f"(RECOT_TRACEBACK=1 shows where{also})")
    return 1


def refuses(error: Exception) -> bool:
    """Whether an error says that the request was wrong."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    return isinstance(error, RequestError | HydraException | OmegaConfBaseException | YAMLError)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def answered(parser: argparse.ArgumentParser, answer: Callable[[argparse.Namespace], None]) -> int:
    """Parse what was typed after a command whose answer goes to standard output or ``--out``, and give it; 0.

    Raises:
        OSError: the answer has nowhere to go, which is said before any work. Exception: of ``answer``.
    """
    options = parser.parse_intermixed_args()
    if options.out is None:
        tell("")
    answer(options)
    return 0


def check_out(out: Path, endings: Sequence[str]) -> None:
    """Refuse a file for ``--out`` that cannot be written, before anything is read.

    Args:
        endings: one of which the file has, in any letters.

    Raises:
        RequestError: with what would work.
    """
    folder = out.absolute().parent
    if out.suffix.lower() not in endings:
        raise RequestError(f"--out {out} is neither {' nor '.join(endings)}; name a file that ends so")
    if not folder.is_dir():
        raise RequestError(f"--out {out}: there is no folder {folder}; make it, or name another place")
    if out.is_dir():
        raise RequestError(f"--out {out} is a folder; name a file")
    if not os.access(folder, os.W_OK):
        raise RequestError(f"--out {out}: the folder {folder} cannot be written; name another place")


def say(text: str) -> None:
    """Write one line for the user to standard error; that this stream is closed is no failure."""
    try:
        sys.stderr.write(visible(re.sub(r"\s*\n\s*", " ", text)) + "\n")
        sys.stderr.flush()
    except OSError:
        send_nowhere(2)


def tell(text: str) -> None:
    """Write the answer of a command to standard output.

    Raises:
        BrokenPipeError: the reader has seen enough.
        OSError: standard output cannot be written, or was closed from the start.
    """
    if sys.__stdout__ is None:
        raise OSError("standard output is closed, so the answer has nowhere to go; send it to a file or a pipe")
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        say(f"{sys.stdout.encoding} has no codes for some letters, which are printed as escapes; "
            "PYTHONIOENCODING=utf-8 prints them")
    try:
        sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"standard output cannot be written ({error.strerror}); send the answer elsewhere") from error


@contextmanager
def telling() -> Iterator[None]:
    """Print what came of work that is done. If printing fails, the work stays done, and one line says so."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # the second is rich's answer to the first
        send_nowhere(1)
    except OSError as error:
        send_nowhere(1)
        say(f"the work is done, but its result could not be printed ({error.strerror}); the same command shows the "
            "result again")


def let_go() -> None:
    """Flush standard output; what is left is dropped if nobody reads it."""
    try:
        sys.stdout.flush()
    except OSError:
        send_nowhere(1)


def send_nowhere(descriptor: int) -> None:
    """Drop everything that is written to ``descriptor`` or buffered for it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, descriptor)  # programs that this one starts inherit the descriptor
    if nowhere != descriptor:
        os.close(nowhere)


def open_streams() -> None:
    """Give the process its three streams, even if cron or a launcher started it without one.

    Otherwise the next file that is opened gets the number of the missing stream, and printed text goes into that file.
    A letter that a stream has no code for is written as an escape.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            send_nowhere(descriptor)
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  # as long as the process lives
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")


def in_a_folder() -> None:
    """Refuse to work in a folder that is gone.

    Raises:
        RequestError: the folder is gone.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise RequestError("the folder that this command was typed in is gone; change to another one") from error


@contextmanager
def stoppable() -> Iterator[None]:
    """Let each of :data:`SIGNALS` raise :class:`Stopped`, except those that are ignored from outside, as by nohup."""
    def stop(number: int, frame: object) -> NoReturn:
        raise Stopped(signal.Signals(number))

    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) in usual}
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Hold :data:`SIGNALS` back while libraries are imported: some swallow the exception that a signal raises.

    Garbage is not collected meanwhile. An import makes hundreds of thousands of objects that stay, and the collector
    looks through them again and again: a fifth of the time that torch, pandas and SciPy take.
    """
    before, collecting = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def quiet_threads() -> None:
    """Before torch is imported: let threads spin briefly while they wait, then sleep.

    Threads that spin for long lose their time slice on a busy machine (an epoch of the planted data took 6.9 s in place
    of 0.4 s), and threads that never spin are a third slower on a quiet one.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def quiet_srun() -> None:
    """Before Lightning is used: on a machine with Slurm it advises each run to be started by srun."""
    warnings.filterwarnings("ignore", message="The `srun` command is available")
