"""The project's exceptions: one family, one line each, with the field or file, what was found and the mend."""


class MaetError(Exception):
    """Anything this project raises on purpose."""


class InputError(MaetError):
    """Something the user can mend: a file, a field, a value. The command line exits with status 2."""


class RecipeError(InputError):
    """A recipe that says something impossible or unknown."""


class CheckpointError(InputError):
    """A model that cannot be read, or that does not fit the base."""


class PackError(InputError):
    """An ability or language pack that cannot be read, or that was made for another base."""


class ScoresError(InputError):
    """Importance scores that cannot be read, or that do not fit the recipe."""


class OutputError(InputError):
    """A place where the result cannot be written."""


class WorkspaceError(InputError):
    """A path outside the folder that the user opened, or a folder that is no workspace."""


class JobError(InputError):
    """A background job that cannot be started, found or changed now."""


class Cancelled(MaetError):
    """The user stopped the work; nothing is left behind."""


class Stopped(Cancelled):
    """The same, but what was done is kept: the message says how to go on."""
