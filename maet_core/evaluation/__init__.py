"""Whether a model is right, in which language, and whether that is more than luck.

`extraction` reads the answer out of a text, `tasks`, `prompts` and `asking` say what is asked and how, `engine` lets a model answer,
`likelihood` scores choices and general text, `statistics` says what the counts allow to claim, `run` puts it together and
`results` keeps it. This module imports no torch: the app's first page uses it.
"""

from maet_core.evaluation.extraction import Extraction, extract, final_answer, is_right, stated

__all__ = ["Extraction", "extract", "final_answer", "is_right", "stated"]
