"""What Copier imports, and never uses here: modules of Unix, a terminal's questions and colors. Import it before Copier."""

import sys
import types


def put(name: str, **members: object) -> None:
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = []  # it may have submodules
    vars(module).update(members)


class Choice:
    def __init__(self, title: str, value: object, disabled: str = "", checked: bool = False) -> None:
        self.title, self.value, self.disabled, self.checked = title, value, disabled, checked


def unused(*_: object, **__: object) -> None:
    raise NotImplementedError


put("grp", getgrgid=unused, getgrnam=unused)
put("pwd", getpwnam=unused, getpwuid=unused)
put("questionary", confirm=unused, unsafe_prompt=unused)
put("questionary.prompts")
put("questionary.prompts.common", Choice=Choice)
put("prompt_toolkit")
put("prompt_toolkit.lexers", PygmentsLexer=unused)
put("pygments")
put("pygments.lexers")
put("pygments.lexers.data", JsonLexer=unused, YamlLexer=unused)
