"""The README's table of config keys, from the config's own descriptions: `python tests/readme_table.py` writes it."""

import json
import sys
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- config keys: begin -->\n", "<!-- config keys: end -->\n"


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None or value == "":
        return "empty"
    return f"`{json.dumps(value)}`"


def config_table(model: type[BaseModel]) -> str:
    """One table for the plain keys, then one for each section."""
    plain, sections = [], []
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            sections.append(f"\n`{name}:` {info.description}\n{config_table(info.annotation)}")
        else:
            # Angle brackets would be read as HTML.
            meaning = str(info.description).replace("<", "&lt;")
            plain.append(f"| `{name}` | {_default(info.default)} | {meaning} |\n")
    return "\n| key | default | meaning |\n|---|---|---|\n" + "".join(plain) + "".join(sections)


def replaced(text: str, table: str) -> str:
    """The README's text with the table between its marks."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + table + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from tracker.config import Config

    README.write_text(replaced(README.read_text(), config_table(Config)))
