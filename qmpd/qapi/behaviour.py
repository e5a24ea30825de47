"""How one release behaves where releases differ: one named field for each difference.

Every value comes from a release's `release.json`; code asks these fields and never compares version
numbers.  `qmpd.qapi.differences` says what each field changes.
"""

from __future__ import annotations

from collections.abc import Mapping


class Behaviour:
    """The differences between releases; what each field changes stands in `qmpd.qapi.differences`.

    The defaults are release 10.0's.  Texts hold their variable parts as `{name}` for `str.format`.  It cannot be
    changed, like a frozen dataclass, which with so many fields would take a noticeable part of qmpd's start to make.
    """

    reply_after_turn: bool = True
    float_format: str = "g17"
    json_parser: str = "classic"
    lexical_error: str = ""
    out_of_band: bool = True
    singlestep_in_status: bool = False
    stop_affects_suspended: bool = True
    panic_reported_twice: bool = False
    preconfig_run_state: str = "prelaunch"
    preconfig_refusal: str = "The command '{command}' is permitted only after machine initialization has completed"
    exit_preconfig_refusal: str = "The command is permitted only before machine initialization"
    enum_refusal: str = "Parameter '{name}' does not accept value '{value}'"
    property_not_writable: str = "Property '{type}.{name}' is not writable"
    no_hotpluggable_cpus: str = "machine does not support hot-plugging CPUs"
    no_nmi: str = "machine does not provide NMIs"
    debug_exit_announced: bool = True
    end_key_announced: bool = True
    virtual_memory_leaves: bool = True
    memory_change_tells_path: bool = True
    seabios_greeting: str = "SeaBIOS (version 1.16.2-debian-1.16.2-1)"
    events_carry_cause: bool = True
    reset_keeps_state: bool = False
    wakeup_refused: bool = True
    firmware_resets: int = 1
    ipxe_build: str = "1.21.1+git20250501.dad20602+dfsg-1"
    option_rom_memory: str = "1038ec0 c0000 190"
    microvm_has_seabios: bool = True
    chardev_flag: str = "=on"
    cpu_info_arch: bool = False
    cpu_info_props: bool = True
    cpu_info_qom_type: bool = False
    migrate_pause_refusal: str = (
        "migrate-pause is currently only supported during postcopy-active or postcopy-recover state"
    )
    keyval_options: bool = True
    smp_levels: str = "drawers,books,sockets,dies,clusters,modules,cores,threads"
    smp_prefers_cores: bool = True
    smp_zero: str = "refused"
    unsupported_smp_level: str = "{level} > 1 not supported by this machine's CPU topology"
    unknown_machine: str = 'unsupported machine type: "{name}"'
    unknown_incoming: str = "Parameter 'channel-type' does not accept value '{uri}'"
    pid_file_refusal: str = "Could not create '{path}': {reason}"
    unknown_watchdog_action: str = "Error: invalid parameter value: {action}"
    device_id_check: str = "none"
    empty_device_id_found: bool = True
    bitmap_status: bool = False
    persistent_bitmaps_need_writing: bool = False
    transactions_end_backwards: bool = True
    backup_filter: str = "copy-before-write"
    backup_copies_clusters: bool = False
    backing_is_checked: bool = True
    stream_checks_options_first: bool = True
    copies_noted_below: bool = False
    moved_disks_stay_shared: bool = False
    inactive_children_refused: bool = True
    empty_drives_writable: bool = False
    format_facts_headed: bool = True
    users_zero_as_told: bool = True
    dump_begin_checked: bool = False
    dumps_have_sections: bool = True
    grouped_actions_checked_first: bool = True
    graph_change_drains: str = "each"
    backup_keeps_nodes: bool = False
    failed_backup_stays_drained: bool = False
    vmdk_names_tools: bool = True
    unplug_asked_once: bool = True
    unpowered_slots_let_go: bool = True
    cpu_unplug_needs_guest: bool = True
    unplug_lag: int = 0
    adding_ends_lag: bool = False
    untold_devices: str = ""
    pci_function_check: str = "always"
    block_sizes_apart: bool = False
    send_queue_limit: int = 256
    rng_without_bytes: bool = False
    memory_unplug_event: str = ""
    unplug_refusal_event: str = "DEVICE_UNPLUG_GUEST_ERROR"
    netdev_ids_checked: bool = True
    device_options_are_text: bool = False
    removed_files_close_at_once: bool = True
    unused_files_close: bool = False
    client_files_checked: bool = True
    shared_monitors_open_late: bool = True
    stick_has_drive_first: bool = False
    idle_outputs_blank: bool = False
    idle_virtio_screen: str = "Display output is not active."
    vnc_password_disabled: str = "Could not set password"
    vnc_expiry_missing: str = "Could not set password expire time"
    password_connected_refusal: str = "parameter 'connected' must be 'keep' when 'protocol' is 'vnc'"
    password_expiry_refusal: str = "Parameter 'time' doesn't take value '{time}'"
    usual_machine: str = "pc-i440fx-10.0"
    defaults_plain: bool = True
    fsdev_drivers: str = "local,synth"
    smbios_slots_checked_early: bool = False
    incoming_channels: bool = True
    migrates_through_files: bool = True
    unmigratable_devices: str = (
        "nvme,rocker,usb-audio,usb-braille:usb-serial,usb-mtp,usb-net,usb-serial,usb-uas,usb-wacom-tablet:usb-wacom,ufs"
    )
    detached_migration_told: bool = True
    dirty_rate_sampling: str = "page-sampling"
    dirty_rate_start: str = "time-of-day"
    descriptors_of_files: str = "deprecated"
    cpu_numbers_unsigned: bool = True
    cpu_address_bits: str = "any"
    memory_encryption: str = "deprecated"
    memory_devices_checked_first: bool = True
    log_always_opened: bool = True
    log_faults_bare: bool = False
    missing_types_told: bool = False
    audio_faults_bare: bool = False
    cards_listed_always: bool = True
    sd_drive_made: bool = False
    prompts_at_once: bool = False
    scsi_iothread_refused: bool = False
    nic_help: bool = True
    virtio_card_named: bool = True
    nic_models_refused_at_once: bool = False
    xen_domain_known: bool = True
    mon_deprecated: bool = False
    streams_are_trees: bool = True
    audio_without_model: bool = True
    spice_is_module: bool = True
    plugin_help: bool = True
    smbios_slots: bool = True
    chardev_failure: str = "Failed to add chardev '{id}': {reason}"
    drive_errors_marked: bool = False
    chardev_aliases: str = "refused"
    chardev_without_address: bool = True
    client_wait_refused: bool = True
    size_language: str = "exact"
    tap_ways_apart: bool = True
    multiplexers_always_busy: bool = False
    socket_kind_first: bool = True
    config_faults_at_option: bool = True
    snapshot_deletion_checks: bool = True
    snapshot_needs_active: bool = True
    snapshots_skip_earlier: bool = True
    snapshot_columns: str = "wide"
    luks_detached_header: bool = True
    snapshots_everywhere_of_able: bool = False
    block_statistics_table: bool = False
    latency_boundaries_may_be_none: bool = False
    graph_permission: bool = False
    written_disks_stay: bool = True
    snapshot_list_marked: bool = False
    state_errors_told: bool = False
    bare_state_size: int = 1104
    machine_state_size: int = 441651
    machine_state_growth: int = 315544
    dump_formats: str = "elf,kdump-zlib,kdump-raw-zlib,win-dmp"
    windows_dump_checked: bool = False
    memory_kept_from_incoming: bool = False
    guest_forwards_to_host: bool = True
    job_completes_in_standby: bool = True
    job_pause_wakes: bool = True
    job_rests_whole: bool = True
    job_soft_cancel_completes: bool = False
    job_drains_at_end: int = 2
    stream_has_filter: bool = True
    device_options_in_order: bool = False
    bus_listed_by_option: bool = True
    node_of_unplaced_cpu: int = -1
    usb_devices_deprecated: bool = False
    plugins_built: bool = True
    audio_backends_are_objects: bool = False
    pretty_needs_control: bool = True
    hyperv_vendor_checked: bool = True
    exports_deleted_after_reply: bool = False
    newest_exports_end_first: bool = True
    exports_end_last: bool = False
    writable_exports_shared: bool = True
    nbd_clients: int = 100
    nbd_patience: int = 10
    nbd_tls_over_ip_only: bool = False
    screendump_has_format: bool = True
    sound_capture_deprecated: bool = False
    device_errors_marked: bool = True
    registers_of_one_cpu: bool = True
    device_tree_in_brief: bool = True
    migration_told_whole: bool = False
    vnc_misuse_marked: bool = True
    vnc_address_changes: bool = False
    mirror_watches_source: bool = False
    mirror_tells_sizes: bool = True
    mirror_tells_synced: bool = True
    mirror_reads_source: bool = True
    nbd_extended_headers: bool = True
    zeroes_unlimited: bool = True
    stream_filter_keeps_child: bool = True
    node_demands: str = 'copy-before-write'
    mirror_fails_early: bool = True
    job_uses_node: bool = False
    job_create_waits: bool = True
    creatable_drivers: str = 'file,luks,nfs,parallels,qcow,qcow2,qed,rbd,ssh,vdi,vhdx,vmdk,vpc'
    job_drains: str = 'stream 3 2 1 2,commit 1 4 3 1,mirror 2 2 3 1,active 2 2 3 1,switch 0 0 1 0'
    job_created_in_drain: bool = False
    module_faults_bare: bool = False
    chardev_opened_first: bool = False
    tcp_addresses_named: bool = True
    mirror_looks_for_zeros: bool = False
    failover_pairs: str = "strict"
    inquiry_errors_marked: bool = True
    virtio_listed_by_tree: bool = True
    unmapped_regions_told: bool = True
    memory_files_of_pages: bool = True
    downtime_is_size: bool = True

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a release's behaviour does not change: {name}")

    @classmethod
    def from_json(cls, members: Mapping[str, Mapping[str, object]]) -> Behaviour:
        """Read the `behaviour` member of a release.json: `{field: {"value": ...}}`.

        :raise ValueError: a field has no value, an unknown name, or a value of another type.
        """
        known = cls.__annotations__
        values: dict[str, object] = {}
        for name, member in members.items():
            if name not in known:
                raise ValueError(f"unknown behaviour '{name}'")
            values[name] = member.get("value")
            if type(values[name]).__name__ != known[name]:
                raise ValueError(f"behaviour '{name}' has no value of type {known[name]}")
        return cls(**values)
