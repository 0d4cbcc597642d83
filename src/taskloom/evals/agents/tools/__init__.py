"""The tools that an agent gets from a run's capabilities: over MCP, and a shell with files over SSH.

Connections are opened when a run's tools are, and closed with them, also on cancellation. A tool's own failure is a
result for the model; a lost connection is the infrastructure's, and ends the run.
"""

from taskloom.evals.agents.tools.calling import call_tools
from taskloom.evals.agents.tools.tool import Tool
from taskloom.evals.agents.tools.toolbox import TOOL_TIMEOUT, Toolbox, open_tools

__all__ = ["TOOL_TIMEOUT", "Tool", "Toolbox", "call_tools", "open_tools"]
