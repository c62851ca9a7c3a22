"""Is the configuration right? What `check` says, among the other findings."""

from __future__ import annotations

from agent_worker.doctor.examination import Examination
from agent_worker.doctor.finding import Status

NAME = "configuration"


async def check_configuration(exam: Examination) -> None:
    """Report each problem of the settings, agents, numbers, tools and providers."""
    problems = exam.problems()
    for problem in problems:
        whole = str(problem)
        message = whole.removesuffix(problem.remedy).strip() if problem.remedy else whole
        exam.report(NAME, Status.FAILED, message, problem.remedy, code=problem.code)
    if problems or exam.settings is None:
        return
    if exam.settings.control_url:
        exam.report(NAME, Status.OK, "The settings are valid; the agents are the control plane's.")
    elif exam.catalog is not None:
        agents, numbers = len(exam.catalog.agents), len(exam.catalog.numbers)
        said = f"{agents} {'agent' if agents == 1 else 'agents'}, {numbers} {'number' if numbers == 1 else 'numbers'}"
        exam.report(NAME, Status.OK, f"The configuration is valid: {said}.")
