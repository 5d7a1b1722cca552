"""Checkrein in agent frameworks: a tool call is checked before it runs, whatever makes it.

``guard_tools`` is for plain functions. Each module beside it is for one framework and needs that framework's
package, which is the extra of the same name: ``pip install checkrein[langchain]``.
"""

from ._gate import Refusal
from ._tools import guard_tools

__all__ = ["Refusal", "guard_tools"]
