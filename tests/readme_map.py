"""The README's map of files, from their captions: `python tests/readme_map.py` writes it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ssl_models", "domains", "pipelines", "flows")
BEGIN, END = "<!-- map -->\n", "<!-- /map -->\n"


def modules() -> list[Path]:
    """Every module of the four packages and the public face, in reading order."""
    found = [ROOT / "selfsight.py"]
    for package in PACKAGES:
        files = sorted((ROOT / package).rglob("*.py"), key=lambda file: (file.parent, file.name != "__init__.py", file))
        found += [file for file in files if "__pycache__" not in file.parts]
    return found


def caption(file: Path) -> str:
    """The first line of a module's docstring; "" without one."""
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    return docstring.split("\n")[0]


def readme_map() -> str:
    """The map as Markdown: a heading and a table of captions per folder."""
    lines: list[str] = []
    folder = None
    for file in modules():
        if file.parent != folder:
            folder = file.parent
            name = "The public face" if folder == ROOT else f"`{folder.relative_to(ROOT)}/`"
            about = caption(folder / "__init__.py") if folder != ROOT else ""
            lines += ["", f"**{name}** {about}".rstrip(), "", "| file | what it is |", "|---|---|"]
        if file.name != "__init__.py":
            lines.append(f"| [`{file.name}`]({file.relative_to(ROOT)}) | {caption(file).replace('|', '&#124;')} |")
    return "\n".join(lines).strip() + "\n"


def with_map(readme: str) -> str:
    """The README's text with a fresh map between its two markers."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + readme_map() + END + after


if __name__ == "__main__":
    page = ROOT / "README.md"
    page.write_text(with_map(page.read_text()))
