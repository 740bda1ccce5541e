"""Print the lower bounds of pyproject.toml as pip's constraints: the oldest that we say will do.

Of the dependencies, and of the extras that users install; the tools of developers may be any.
"""

import tomllib
from itertools import chain
from pathlib import Path

DEVELOPERS = {"test", "bench"}

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
of_users = [extras[name] for name in extras if name not in DEVELOPERS]
for requirement in chain(project["dependencies"], *of_users):
    name, _, bound = requirement.partition(">=")
    if bound:
        print(f"{name.partition('[')[0]}=={bound}")
