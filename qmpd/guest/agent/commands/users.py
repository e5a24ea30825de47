"""What the guest is called, and who uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.guest.agent import base64_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.guest.agent.agent import Agent, Handler
    from qmpd.guest.agent.model import User

_KEYS = ".ssh/authorized_keys"
_SYSTEM = (
    "kernel-release", "kernel-version", "machine", "id", "name", "pretty-name", "version", "version-id", "variant",
    "variant-id",
)  # fmt: skip


def system(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-osinfo."""
    return {name: agent.model.system[name] for name in _SYSTEM if name in agent.model.system}


def host_name(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-host-name."""
    return {"host-name": agent.model.host_name}


def zone(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-timezone: seconds east of Greenwich."""
    return {"zone": agent.model.zone, "offset": agent.model.zone_offset}


def users(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-users: those who have logged in."""
    found = agent.model.users.items()
    return [{"user": name, "login-time": user.since} for name, user in found if user.since is not None]


def set_password(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-set-user-password."""
    name = arguments["username"]
    password = base64_text.decode(arguments["password"])
    if any(each in name for each in "\n:"):
        raise Refusal("agent-password-user")
    if b"\n" in password:
        raise Refusal("agent-password-text")
    user = agent.model.users.get(name)
    if user is None:
        raise Refusal("agent-password-not-set", user=name)
    user.password = password.decode("latin-1")
    return {}


def _user(agent: Agent, name: str) -> User:
    user = agent.model.users.get(name)
    if user is None:
        raise Refusal("agent-user-unknown", user=name)
    return user


def _existing_keys(user: User) -> list[str]:
    if user.keys is None:
        raise Refusal("agent-keys-not-read", path=f"{user.home}/{_KEYS}")
    return user.keys


def keys(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-ssh-get-authorized-keys."""
    return {"keys": [each for each in _existing_keys(_user(agent, arguments["username"])) if each]}


def add_keys(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-ssh-add-authorized-keys: those that are not there yet, or instead of all others (`reset`)."""
    user = _user(agent, arguments["username"])
    for key in arguments["keys"]:
        if "\n" in key or key.startswith("#"):
            raise Refusal("agent-key", key=key)
    known = [] if arguments.get("reset") or user.keys is None else user.keys
    user.keys = [*known, *(key for key in dict.fromkeys(arguments["keys"]) if key not in known)]
    return {}


def remove_keys(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-ssh-remove-authorized-keys."""
    user = _user(agent, arguments["username"])
    user.keys = [key for key in user.keys or () if key not in arguments["keys"]] if user.keys is not None else None
    return {}


HANDLERS: Mapping[str, Handler] = {
    "guest-get-osinfo": system,
    "guest-get-host-name": host_name,
    "guest-get-timezone": zone,
    "guest-get-users": users,
    "guest-set-user-password": set_password,
    "guest-ssh-get-authorized-keys": keys,
    "guest-ssh-add-authorized-keys": add_keys,
    "guest-ssh-remove-authorized-keys": remove_keys,
}
