"""The command that installs what a step needs, before its program starts."""

import shlex
from collections.abc import Sequence


def install_command(requirements: Sequence[str], kfp_version: str) -> list[str]:
    """The beginning of a container's command: it installs, then runs the rest of the command.

    From whatever index the container's pip is set up for. KFP comes last and by itself: to be started by it, a step needs
    the package without its dependencies.
    """
    lines = ["set -e"]
    lines.append("python3 -m pip --version > /dev/null 2>&1 || python3 -m ensurepip")
    lines.append("export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore")
    if requirements:
        wanted = " ".join(shlex.quote(requirement) for requirement in requirements)
        lines.append(f"python3 -m pip install --quiet --no-warn-script-location {wanted}")
    if not any(requirement.split("==")[0].strip() == "kfp" for requirement in requirements):
        lines.append(f"python3 -m pip install --quiet --no-warn-script-location --no-deps kfp=={kfp_version}")
    return ["sh", "-c", "\n".join([*lines, '"$0" "$@"']) + "\n"]
