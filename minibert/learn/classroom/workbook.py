"""A student's folder: the files of the exercises, and what is known of them: hints that were given, answers that passed."""

import ast
import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from ...storage.files import write_atomically
from ..course.exercise import Exercise
from ..stubs.gap import nodes
from ..stubs.handout import handout, paragraphs_of

NOTES = ".minibert-exercises.json"


class Workbook:
    """Raises OSError or ValueError, in one sentence, where a file cannot be read or written."""

    def __init__(self, folder: str | Path, course_file: str | None = None):
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{folder} is a file; expected a folder for the exercises.")
        self.course_file = course_file

    @cached_property
    def notes(self) -> dict[str, dict[str, Any]]:
        """By exercise: how many hints were given, and the hash of the file that passed. Read only when it is needed."""
        file = self.folder / NOTES
        try:
            notes = json.loads(file.read_text(encoding="utf-8"))
            for known in notes.values():
                int(known.get("hints", 0))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise OSError(f"{file} cannot be read ({error.strerror}).") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is damaged ({error}); remove it, and hints begin anew.") from error
        return notes  # type: ignore[no-any-return]

    @staticmethod
    def file_in(folder: Path, exercise: Exercise) -> Path:
        return folder / (exercise.name.replace("-", "_") + ".py")

    def file(self, exercise: Exercise) -> Path:
        return self.file_in(self.folder, exercise)

    def command(self, verb: str, exercise: Exercise) -> str:
        """A command of the command line, as it is to be typed."""
        where = "" if self.folder == Path(".") else f" --in {self.folder}"
        own = f" --course {self.course_file}" if self.course_file else ""
        return f"minibert exercise {verb} {exercise.name}{where}{own}"

    def start(self, exercise: Exercise) -> Path:
        """Writes the file of an exercise; one that is there is left alone."""
        file = self.file(exercise)
        if file.exists():
            raise ValueError(f"{file} is there already and stays as it is; `{self.command('reset', exercise)}` starts anew.")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, self.page(exercise).encode())
        return file

    def page(self, exercise: Exercise) -> str:
        """What stands in a new file."""
        title, command = f"{exercise.name}: {exercise.title or exercise.target}", self.command("check", exercise)
        if exercise.page is None:
            return handout(exercise.cut, title, exercise.question, command)
        top = "\n\n".join([title, *paragraphs_of(exercise.question), "The command at the end checks the answer."])
        return f'"""{top}\n"""\n\n{exercise.page().rstrip()}\n\n\n# {command}\n'

    def reset(self, exercise: Exercise) -> Path | None:
        """Starts anew. The old file is kept under another name, which is returned."""
        file, kept = self.file(exercise), None
        if file.exists():
            kept = next(
                path for number in range(1, 1000)
                if not (path := file.with_name(f"{file.stem}.old{number}.py")).exists()
            )  # fmt: skip
            file.rename(kept)
        try:
            self.start(exercise)
        except OSError:
            if kept:
                kept.rename(file)
            raise
        return kept

    def forget(self, exercise: Exercise) -> None:
        """No hint was given, and nothing has passed."""
        if self.notes.pop(exercise.name, None) is not None:
            self._write()

    def status(self, exercise: Exercise) -> str:
        """ "done", "done, changed since", "started" or "". """
        file = self.file(exercise)
        if not file.is_file():
            return ""
        passed = self.notes.get(exercise.name, {}).get("passed")
        if passed is None:
            return "started"
        return "done" if passed == _hash(file) else "done, changed since"

    def note(self, exercise: Exercise) -> None:
        """Remembers that the file, as it is now, passed."""
        self.notes.setdefault(exercise.name, {})["passed"] = _hash(self.file(exercise))
        self._write()

    def hint(self, exercise: Exercise, number: int) -> str:
        """A hint, counted from 0; behind the last one, that one again."""
        hints = hints_of(exercise)
        number = min(number, len(hints) - 1)
        more = f"\nThat is the last one; `{self.command('solution', exercise)} --yes` shows the solution."
        return f"Hint {number + 1} of {len(hints)}: {hints[number]}{more if number + 1 == len(hints) else ''}"

    def hints_given(self, exercise: Exercise) -> int:
        return int(self.notes.get(exercise.name, {}).get("hints", 0))

    def note_hint(self, exercise: Exercise) -> None:
        """Remembers that one more was given."""
        self.notes.setdefault(exercise.name, {})["hints"] = min(self.hints_given(exercise) + 1, len(hints_of(exercise)))
        self._write()

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / NOTES, (json.dumps(self.notes, indent=1) + "\n").encode())


def hints_of(exercise: Exercise) -> list[str]:
    """Those of the exercise, and what the real lines call."""
    hints = list(exercise.hints)
    if exercise.page is None and not exercise.stub:
        calls = dict.fromkeys(ast.unparse(call.func).rpartition(".")[2] for call in nodes(exercise.cut.missing, ast.Call))
        hints.append(f"The real lines call {', '.join(calls)}." if calls else "The real lines call nothing.")
    return hints or ["there is none."]


def solution_of(exercise: Exercise, text: str) -> str:
    """The real lines, or what stands for them; `text` is the student's file."""
    if callable(exercise.answer):
        return exercise.answer(text)
    if exercise.answer or exercise.stub:
        answer = exercise.answer or f"PyTorch has it: {exercise.target}."
        return "\n".join([answer, *exercise.hints])
    first, last = exercise.cut.lines
    place = f"{exercise.cut.module.__name__.replace('.', '/')}.py, lines {first} to {last}"
    return f"{place}:\n{exercise.cut.solution}"


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
