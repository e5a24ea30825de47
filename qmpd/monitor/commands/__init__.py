"""The commands, one module for each module of QAPI, and the table that finds them by name."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING

from qmpd.monitor.entry import Entry
from qmpd.monitor.registry import HANDLERS, REFUSING

if TYPE_CHECKING:
    from qmpd.monitor.entry import Handler
    from qmpd.qapi import Release

_QUERIES = re.compile("query-|x-debug-")
_PLACE = "qmpd.monitor.commands.{}"
MODULES = {
    "control": (
        "qmp_capabilities", "query-version", "query-commands", "query-events", "query-qmp-schema", "quit",
    ),
    "run_state": (
        "query-status", "stop", "cont", "system_reset", "system_powerdown", "system_wakeup", "inject-nmi", "set-action",
        "watchdog-set-action",
    ),
    "machine": (
        "query-cpus-fast", "query-cpus", "query-hotpluggable-cpus", "query-memory-size-summary",
        "query-current-machine", "query-name", "query-uuid", "query-target", "query-kvm", "query-accelerators",
        "x-exit-preconfig", "set-numa-node", "rtc-reset-reinjection",
    ),
    "misc": ("query-yank", "yank", "human-monitor-command"),
    "descriptors": ("getfd", "closefd", "add-fd", "remove-fd", "query-fdsets", "add_client"),
    "migration": (
        "migrate", "migrate-incoming", "query-migrate", "migrate_cancel", "migrate-continue",
        "migrate-start-postcopy", "migrate-pause", "migrate-recover", "migrate-set-capabilities",
        "query-migrate-capabilities", "migrate-set-parameters", "query-migrate-parameters",
    ),
    "older_migration": (
        "migrate_set_speed", "migrate_set_downtime", "migrate-set-cache-size", "query-migrate-cache-size",
    ),
    "dirty_pages": (
        "calc-dirty-rate", "query-dirty-rate", "set-vcpu-dirty-limit", "cancel-vcpu-dirty-limit",
        "query-vcpu-dirty-limit",
    ),
    "chardev": (
        "query-chardev", "chardev-add", "chardev-change", "chardev-remove", "chardev-send-break", "ringbuf-write",
        "ringbuf-read",
    ),
    "qom": ("qom-list", "qom-get", "qom-set", "object-add", "object-del"),
    "qdev": ("device_add", "device_del"),
    "net": ("netdev_add", "netdev_del", "set_link", "query-rx-filter"),
    "balloon": ("balloon", "query-balloon"),
    "hardware": ("query-iothreads", "query-memdev", "query-acpi-ospm-status", "query-pci", "query-memory-devices"),
    "block": (
        "blockdev-add", "blockdev-del", "query-named-block-nodes", "query-block", "query-blockstats",
        "blockdev-open-tray", "blockdev-close-tray", "blockdev-remove-medium", "blockdev-insert-medium",
        "blockdev-change-medium", "eject",
    ),
    "block_limits": ("block_set_io_throttle", "block-latency-histogram-set", "block_resize"),
    "block_nodes": (
        "blockdev-reopen", "blockdev-set-active", "x-blockdev-reopen", "block-set-write-threshold",
        "change-backing-file", "x-blockdev-set-iothread", "x-debug-query-block-graph",
    ),
    "block_export": (
        "nbd-server-start", "nbd-server-stop", "nbd-server-add", "nbd-server-remove", "block-export-add",
        "block-export-del", "query-block-exports",
    ),
    "block_snapshots": (
        "blockdev-snapshot", "blockdev-snapshot-sync", "blockdev-snapshot-internal-sync",
        "blockdev-snapshot-delete-internal-sync",
    ),
    "bitmaps": (
        "block-dirty-bitmap-add", "block-dirty-bitmap-remove", "block-dirty-bitmap-clear", "block-dirty-bitmap-enable",
        "block-dirty-bitmap-disable", "block-dirty-bitmap-merge", "x-debug-block-dirty-bitmap-sha256",
    ),
    "backups": ("blockdev-backup", "drive-backup"),
    "transaction": ("transaction",),
    "snapshots": ("snapshot-save", "snapshot-load", "snapshot-delete"),
    "dump": ("query-dump", "query-dump-guest-memory-capability", "dump-guest-memory", "memsave", "pmemsave"),
    "virtio": ("x-query-virtio",),
    "input": ("send-key", "input-send-event"),
    "ui": ("screendump", "set_password", "change-vnc-password", "expire_password"),
    "jobs": (
        "job-pause", "block-job-pause", "job-resume", "block-job-resume", "job-complete", "block-job-complete",
        "job-finalize", "block-job-finalize", "job-dismiss", "block-job-dismiss", "job-cancel", "block-job-cancel",
        "block-job-set-speed", "block-job-change", "query-jobs", "query-block-jobs",
    ),
    "block_stream": ("block-stream",),
    "block_create": ("blockdev-create", "x-blockdev-amend"),
    "block_commit": ("block-commit",),
    "block_mirror": ("blockdev-mirror", "drive-mirror"),
    "others": (
        "replay-seek", "replay-break", "replay-delete-break", "x-colo-lost-heartbeat", "xen-event-inject", "dumpdtb",
        "sev-inject-launch-secret", "client_migrate_info", "announce-self", "xen-set-replication",
        "query-xen-replication-status", "xen-colo-do-checkpoint", "xen-set-global-dirty-log", "query-rocker",
        "query-rocker-ports", "query-rocker-of-dpa-flows", "query-rocker-of-dpa-groups",
        "device-sync-config", "display-reload", "display-update", "x-blockdev-change",
        "cxl-inject-general-media-event", "cxl-inject-dram-event",
        "cxl-inject-memory-module-event", "cxl-inject-poison", "cxl-inject-uncorrectable-errors",
        "cxl-inject-correctable-error",
    ),
    "refusing": (
        "xen-save-devices-state", "xen-load-devices-state", "trace-event-set-state", "trace-event-get-state",
    ),
}  # fmt: skip
"""The commands of each module.  A module is imported when one of its commands is first asked for."""

EXTENDING = {
    "live_update": (
        "live-update-prepare", "live-update-query", "live-update-commit", "live-update-cancel", "set-reboot-reset",
        "query-reboot-reset", "system_sleep",
    ),
}  # fmt: skip
"""The same of the commands that extensions add to a release."""

_APART = frozenset({
    "block", "block_limits", "block_nodes", "block_export", "block_snapshots", "bitmaps", "backups", "transaction",
    "snapshots", "jobs", "block_stream", "block_create", "block_commit", "block_mirror", "qdev",
})  # fmt: skip
"""The modules whose commands may have to wait for disks, all but queries (`qmpd.system.apart`)."""

_LOOKING = frozenset({"query-block", "query-blockstats", "query-named-block-nodes"})
"""The queries that look at files."""

_MODULE_OF = {name: module for module, names in {**MODULES, **EXTENDING}.items() for name in names}


def handler(name: str) -> Handler | None:
    """What executes a command; None where qmpd does not model it."""
    module = _MODULE_OF.get(name)
    if module is not None and name not in HANDLERS:
        import_module(_PLACE.format(module))
        return HANDLERS[name]
    return HANDLERS.get(name)


def handlers(release: Release) -> dict[str, Handler]:
    """All commands that qmpd models, by name; those of the extensions where the release has any."""
    for module in (*MODULES, *EXTENDING) if release.extensions else MODULES:
        import_module(_PLACE.format(module))
    return HANDLERS


def modelled(release: Release) -> set[str]:
    """The names of the commands whose effect qmpd models."""
    return handlers(release).keys() - REFUSING


def find(release: Release, name: str) -> Entry | None:
    """The command `name` as this release has it; None where the release has no such command."""
    description = release.commands.get(name)
    if description is None:
        return None
    # A twin's own answers come before what qmpd would compute.
    execute = None if name in release.answered_first else handler(name)
    if execute is None:
        from qmpd.monitor.commands.unmodelled import answer_unmodelled

        execute = answer_unmodelled(name)
    elif _MODULE_OF.get(name) in _APART and not _QUERIES.match(name):
        from qmpd.monitor.commands.waiting import apart

        execute = apart(execute)
    elif name in _LOOKING:
        from qmpd.monitor.commands.waiting import looks

        execute = looks(execute)
    if name == "blockdev-add":
        from qmpd.monitor.commands.waiting import waits_for_pipes, waits_for_servers

        execute = waits_for_pipes(waits_for_servers(execute))
    return Entry(
        name,
        execute,
        description.checker,
        allow_oob=description.allow_oob,
        allow_preconfig=description.allow_preconfig,
    )
