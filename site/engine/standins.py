"""What Copier imports, in the place of packages that it hardly uses here. Import it before Copier.

Modules of Unix, and a terminal's questions and colors, are never used. Pydantic would only check the template's own
questions, and is half of the packages that the engine would load.
"""

import dataclasses
import inspect
import sys
import types
from typing import Any


def put(name: str, **members: object) -> None:
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = []  # it may have submodules
    vars(module).update(members)


class Choice:
    def __init__(self, title: str, value: object, disabled: str = "", checked: bool = False) -> None:
        self.title, self.value, self.disabled, self.checked = title, value, disabled, checked


class Model:
    """Has its defaults alone: Copier's settings, of which a page has none."""

    def __init__(self) -> None:
        for name, field in vars(type(self)).items():
            if isinstance(field, dataclasses.Field):
                setattr(self, name, field.default_factory())  # type: ignore[operator]


def dataclass(cls: Any = None, **_: object) -> Any:
    """Make a dataclass whose fields are checked once all are set."""
    if cls is None:
        return dataclass
    checks = [(member.checks, member.__get__(None, cls)) for member in vars(cls).values() if hasattr(member, "checks")]
    counts = [len(inspect.signature(check).parameters) for _, check in checks]

    def check_all(self: Any) -> None:
        info = types.SimpleNamespace(data=vars(self))
        for (name, check), count in zip(checks, counts, strict=True):
            setattr(self, name, check(*(getattr(self, name), info)[:count]))

    cls.__post_init__ = check_all
    return dataclasses.dataclass(cls)


def field_validator(name: str) -> Any:
    def mark(method: Any) -> Any:
        method.checks = name
        return method

    return mark


def field(**options: Any) -> Any:
    known = ("default", "default_factory")
    return dataclasses.field(**{name: value for name, value in options.items() if name in known})


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
put(
    "pydantic",
    BaseModel=Model,
    ConfigDict=dict,
    Field=field,
    PositiveInt=int,
    StrictBool=bool,
    AfterValidator=lambda check: check,
    ValidationError=ValueError,
    field_validator=field_validator,
)
put("pydantic.dataclasses", dataclass=dataclass)
put("pydantic_core", to_jsonable_python=unused)
put("pydantic_core.core_schema", ValidationInfo=Any)
