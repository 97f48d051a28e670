"""Who answers the dialogues of mosconf(1) and mos_autoconf(1): somebody on the terminal, or a file."""

from __future__ import annotations

import getpass
import signal
from collections.abc import Callable

from mosfs.tools.mosconf_talk import Question, Talk, Wrong
from mosfs.tools.options import UserError

NO_ANSWER = "no more answers, at: {question}"
BAD_ANSWER = "{file}, line {line}: {text}"
ENDED = "ended: nothing was written"

#: Gives the answer to a question. UserError when there is none.
Ask = Callable[[Question], str]


class Answers:
    """The answers of a file, in their order."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.given = 0
        try:
            with open(file, encoding="utf-8") as stream:
                self.lines = stream.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: {getattr(error, 'strerror', None) or 'not a text file (UTF-8)'}") from error

    def ask(self, question: Question) -> str:
        if self.given == len(self.lines):
            raise UserError(NO_ANSWER.format(question=question.text.strip()))
        self.given += 1
        return self.lines[self.given - 1]

    def wrong(self, text: str) -> None:
        """The answers that follow were meant for other questions."""
        raise UserError(BAD_ANSWER.format(file=self.file, line=self.given, text=text))


class Terminal:
    """Whoever sits there: may try again."""

    @staticmethod
    def ask(question: Question) -> str:
        try:
            return getpass.getpass(question.text) if question.hidden else Terminal._line(question.text)
        except EOFError:
            print()
            raise UserError(ENDED) from None
        except UnicodeDecodeError:
            return "\0"

    @staticmethod
    def _line(prompt: str) -> str:
        """Ctrl-C ends us at once: Python's own handler takes a note only, which nobody reads once input() is in read(2)."""
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            return input(prompt)
        finally:
            signal.signal(signal.SIGINT, before)

    @staticmethod
    def wrong(text: str) -> None:
        print(f"** {text}")


def hold(talk: Talk[object], person: Answers | Terminal) -> object:
    """Lead a dialogue to its end; what it returns."""
    answer = ""
    said: Question | Wrong | str = next(talk)
    try:
        while True:
            if isinstance(said, Question):
                answer = person.ask(said)
            elif isinstance(said, Wrong):
                person.wrong(said.text)
            else:
                print(said)
            said = talk.send(answer)
    except StopIteration as end:
        return end.value
