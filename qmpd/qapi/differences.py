"""What each field of `qmpd.qapi.behaviour.Behaviour` changes: the release files carry it beside the values."""

from __future__ import annotations

ABOUT: dict[str, str] = {
    "reply_after_turn": "a command's reply is sent after the main loop's turn that serves what the command asked for,"
    " so after its events; false: before that turn",
    "float_format": "how a number with a fraction is printed: 'g17' as C's %.17g, 'f' as %f without trailing zeros",
    "json_parser": "the rules and texts of parse errors: 'classic', or 'positions' (the text starts with line:column)",
    "lexical_error": "the text for input that makes no token; empty: the parser's own",
    "out_of_band": "the greeting offers out-of-band execution",
    "singlestep_in_status": "query-status has the member 'singlestep'",
    "stop_affects_suspended": "stop takes a suspended guest to 'paused' and cont back; false: neither does anything",
    "panic_reported_twice": "a guest's panic that powers off is reported as GUEST_PANICKED 'pause', then 'poweroff'",
    "preconfig_run_state": "the run state before x-exit-preconfig",
    "preconfig_refusal": "the text that refuses a command before x-exit-preconfig",
    "exit_preconfig_refusal": "the text that refuses x-exit-preconfig once the machine exists",
    "enum_refusal": "the text for a string that is not a value of its enumeration",
    "property_not_writable": "the text of qom-set for a property that cannot be set",
    "no_hotpluggable_cpus": "the text of query-hotpluggable-cpus where the machine has none",
    "no_nmi": "the text of inject-nmi where the machine has none",
    "debug_exit_announced": "isa-debug-exit asks for a shutdown, so SHUTDOWN tells of it and shutdown=pause"
    " holds it up; false: it ends the process at once",
    "end_key_announced": "C-a x asks for a shutdown, as SHUTDOWN tells; false: it ends all at once; came by 7.2",
    "events_carry_cause": "RESET and SHUTDOWN have data: who brought it about, and why",
    "reset_keeps_state": "a reset leaves the run state as it is, but makes one that needs a reset"
    " 'paused'; false: where the machine was not running it becomes 'prelaunch'",
    "wakeup_refused": "system_wakeup is refused where the guest does not sleep or cannot be woken; false: nothing"
    " happens then, and nothing is said",
    "firmware_resets": "how many resets of its own SeaBIOS most often adds to a reset, once it has run (under TCG)",
    "seabios_greeting": "what SeaBIOS prints first",
    "ipxe_build": "the build of iPXE that is in the network cards' ROMs (schemas/option-roms.json)",
    "option_rom_memory": "what SeaBIOS keeps at the top of memory: for itself, an option ROM, a kernel (hexadecimal)",
    "microvm_has_seabios": "the firmware of machine microvm is SeaBIOS; came between 7.2 and 10.0",
    "chardev_flag": "what stands behind a flag of a socket (`server`) in query-chardev",
    "cpu_info_arch": "query-cpus-fast has the member 'arch'",
    "cpu_info_props": "query-cpus has the member 'props'",
    "cpu_info_qom_type": "query-cpus-fast has the member 'qom-type'",
    "migrate_pause_refusal": "the text of migrate-pause where no migration can be paused",
    "keyval_options": "the command line's -machine and -smp are trees of keys and values, flags are warned about, and"
    " there is -action; false: as in 5.2",
    "smp_levels": "the levels of CPU topology that -smp knows, outermost first",
    "smp_prefers_cores": "-smp makes missing CPUs cores; false: sockets",
    "smp_zero": "what a count of 0 in -smp is: 'ignored', 'warned' about or 'refused'",
    "unsupported_smp_level": "the text that refuses a level of CPU topology that the machine does not have",
    "unknown_machine": "the text that refuses -machine with an unknown type",
    "unknown_incoming": "the text that refuses -incoming with an unknown protocol",
    "pid_file_refusal": "the text for a -pidfile that cannot be created",
    "unknown_watchdog_action": "what the human monitor's watchdog_action prints for an action that there is not",
    "device_id_check": "when device_add looks at the id: 'options' before all else, and it stays taken until the device"
    " is gone for good; 'identifier' before all else, for its form alone; 'late', or 'none'",
    "empty_device_id_found": "device_del of an empty id finds the container of devices, which is no device; false:"
    " nothing",
    "bitmap_status": "a dirty bitmap tells a status beside its flags, and query-block tells of a drive's own; went"
    " between 5.2 and 7.2",
    "persistent_bitmaps_need_writing": "a node that is read-only is refused a persistent bitmap; came between 10.0 and"
    " 11.1",
    "transactions_end_backwards": "the actions of a transaction are committed or undone in reverse order; changed"
    " between 7.2 and 10.0",
    "backup_filter": "the driver of the node that a backup puts on top of its source; changed between 5.2 and 7.2",
    "backup_copies_clusters": "a backup copies one cluster after another, each after its limit of speed; false:"
    " several larger pieces at once; changed between 5.2 and 7.2",
    "backing_is_checked": "it is refused to have something behind a node that cannot; false: nothing comes of it;"
    " changed between 5.2 and 7.2",
    "stream_checks_options_first": "block-stream looks whether its options go together before it looks for its node;"
    " changed between 5.2 and 7.2",
    "copies_noted_below": "the bitmap of what copy-before-write has still to copy is at its source, where queries show"
    " it; false: at its own node; changed between 7.2 and 10.0",
    "moved_disks_stay_shared": "a machine that has its disks again after a migration lets others write to them; false:"
    " one that has come does until it runs; changed between 5.2 and 7.2",
    "inactive_children_refused": "an active node is refused an inactive one below it; came between 7.2 and 10.0",
    "empty_drives_writable": "what is put into a device that has no drive of its own may be written to; false: it may"
    " not",
    "format_facts_headed": "the human monitor's qemu-io has info head what a format tells of itself there; false: the"
    " heading is printed",
    "users_zero_as_told": "whoever writes zeros keeps their room where the node has discard=ignore; false: that counts"
    " for nodes above alone; came between 7.2 and 10.0",
    "dump_begin_checked": "dump-guest-memory refuses a part that begins at a negative address; false: it takes that for"
    " a large one, and finds little there; changed between 7.2 and 10.0",
    "dumps_have_sections": "an ELF file of a dump has two section headers before its program headers, and tells that"
    " its own header has 8 bytes; came between 5.2 and 7.2",
    "grouped_actions_checked_first": "a transaction that is grouped is refused for an action that cannot be before all"
    " else; false: when that action's turn comes, and abort is taken; changed between 7.2 and 10.0",
    "graph_change_drains": "whether a change of the block graph drains all disks, and so pauses jobs for a moment:"
    " 'none', 'each', or the 'whole' of what belongs together; changed between 7.2 and 10.0, and by 11.1",
    "backup_keeps_nodes": "a backup that is over keeps its target until it is dismissed; changed between 5.2 and 7.2",
    "failed_backup_stays_drained": "a drive-backup whose target could not be made or opened leaves its source drained,"
    " so jobs there pause for good; changed between 5.2 and 7.2",
    "vmdk_names_tools": "the description of a vmdk image that is made names VMware's tools; came between 5.2 and 7.2",
    "memory_change_tells_path": "MEMORY_DEVICE_SIZE_CHANGE has the path of the device; came between 5.2 and 7.2",
    "virtual_memory_leaves": "virtio-mem can be taken away where nothing of it is asked for; came between 7.2 and 10.0",
    "unplug_asked_once": "device_del is refused for a device that was asked to go before the machine had run",
    "unpowered_slots_let_go": "a port of PCI Express lets a device go at once that no guest has used, and can be asked"
    " once more after 5 seconds; came between 5.2 and 7.2",
    "cpu_unplug_needs_guest": "device_del of a CPU is refused until the guest has looked at the machine's CPUs",
    "unplug_lag": "the milliseconds for which a device that has gone keeps what it used; DEVICE_DELETED comes at their"
    " end; changed between 10.0 and 11.1",
    "adding_ends_lag": "device_add has what is leaving gone at once even where it succeeds; changed between 5.2 and"
    " 7.2",
    "untold_devices": "the types of devices whose end is never told of, since the emulator never gets rid of them",
    "pci_function_check": "when a PCI function whose slot has its function 0 is refused: 'asked' for by address, or"
    " 'always'",
    "block_sizes_apart": "a size of blocks that is no power of 2 is refused with another text than one that is too"
    " small or too large",
    "send_queue_limit": "the most entries that the queue of a virtio network card may have in which it sends",
    "rng_without_bytes": "a virtio random number generator may be limited to no bytes at all",
    "memory_unplug_event": "the event that tells that memory cannot be taken away; empty: there is none; went between"
    " 7.2 and 10.0",
    "unplug_refusal_event": "the event that tells that the guest will not let go of a device; empty: there is none",
    "netdev_ids_checked": "netdev_add refuses an id that is no identifier or is taken",
    "device_options_are_text": "device_add takes numbers and booleans for their text; false: only strings",
    "removed_files_close_at_once": "remove-fd closes a file at once; false: only while the machine runs, and until then"
    " it is still told of",
    "unused_files_close": "the files of the sets are closed when the last client of a monitor leaves while the machine"
    " runs, but for sets that something uses",
    "client_files_checked": "add_client refuses a file that is no socket before all else",
    "shared_monitors_open_late": "a QMP monitor that shares its device opens once the machine has started; came by 7.2",
    "stick_has_drive_first": "usb-storage has its drive before its disk has it; went between 7.2 and 10.0",
    "idle_outputs_blank": "an output of virtio behind the first has no picture while nobody drives it",
    "idle_virtio_screen": "what a screen of virtio shows while nobody drives it, where that is a text of its own",
    "vnc_password_disabled": "the text that refuses a password for a VNC display that asks for none",
    "vnc_expiry_missing": "the text of expire_password for a VNC display that there is not",
    "password_connected_refusal": "the text of set_password where the clients of a VNC display are not to stay",
    "password_expiry_refusal": "the text of expire_password for a time that is none; empty: it is taken for one",
    "usual_machine": "the full name of the machine type that 'pc' stands for",
    "defaults_plain": "the lists of properties show defaults as they are typed, 'on' and 'off' too; false: as JSON;"
    " came between 7.2 and 10.0",
    "fsdev_drivers": "the drivers that -fsdev knows; 'proxy' went between 7.2 and 10.0",
    "smbios_slots_checked_early": "-smbios type=41,pcidev=ID is refused before the machine starts where there"
    " is no such device; false: later, when the firmware asks for the tables; changed between 7.2 and 10.0",
    "incoming_channels": "-incoming takes a channel as JSON or by its type, and looks at that at once; came"
    " between 7.2 and 10.0",
    "migrates_through_files": "migration knows 'file:'; came between 7.2 and 10.0",
    "unmigratable_devices": "the types of devices whose state cannot be moved, and behind a colon what the state is"
    " called; changed between 7.2 and 10.0, and between 10.0 and 11.1",
    "detached_migration_told": "human-monitor-command says that a migration goes on though nobody waits for it; changed"
    " between 10.0 and 11.1",
    "dirty_rate_sampling": "the modes of calc-dirty-rate that take a number of samples; changed between 7.2 and 10.0",
    "dirty_rate_start": "in which time query-dirty-rate tells the start: 'uptime' of the host or 'time-of-day'; changed"
    " between 7.2 and 10.0",
    "descriptors_of_files": "what becomes of a migration through 'fd:' that is a file and no stream: 'taken',"
    " 'deprecated' (taken with a warning; came between 7.2 and 10.0) or 'refused' (came between 10.0 and 11.1)",
    "cpu_numbers_unsigned": "-cpu reads the numbers of CPUID as without a sign; changed between 7.2 and 10.0",
    "cpu_address_bits": "which phys-bits of a CPU the emulator takes: 'fixed', its own alone; 'range', those of any"
    " CPU; or 'any'; changed between 5.2 and 7.2, and between 10.0 and 11.1",
    "memory_encryption": "what -machine memory-encryption is: 'unused' without KVM, 'checked', or 'deprecated'; changed"
    " between 5.2 and 7.2, and between 10.0 and 11.1",
    "memory_devices_checked_first": "a virtio memory device is refused for the machine's memory before it is looked at"
    " itself; changed between 7.2 and 10.0",
    "log_always_opened": "the file of -D is opened though nothing is to be logged",
    "log_faults_bare": "a file of -D that cannot be opened is told of without the program's name; changed between 5.2"
    " and 7.2",
    "missing_types_told": "'type is NULL' is said where a display's second type is looked for, and there is none;"
    " measured in 7.2 alone",
    "audio_faults_bare": "what is wrong with an audio driver is said without the program's name; changed between"
    " 7.2 and 10.0",
    "cards_listed_always": "-global is looked at for every network card that the program has, as soon as the board"
    " is made; changed between 7.2 and 10.0",
    "sd_drive_made": "a machine has a drive for an SD card by default; changed between 7.2 and 10.0",
    "prompts_at_once": "a human monitor shows its prompt before the machine is made; changed between 7.2 and 10.0",
    "scsi_iothread_refused": "a SCSI disk is refused whose node another device keeps in another thread than its"
    " controller's; false: it works where the node is; changed between 7.2 and 10.0",
    "nic_help": "-nic help lists the types of network backend; false: 'help' is no such type; changed between 7.2"
    " and 10.0",
    "virtio_card_named": "the list of network cards tells which one 'virtio' is; changed between 7.2 and 10.0",
    "nic_models_refused_at_once": "a model of -nic that the machine cannot have ends the program there; false: all"
    " of them are told of at the end; changed between 7.2 and 10.0",
    "xen_domain_known": "-xen-domid is an option of this processor: it was compiled in",
    "mon_deprecated": "-mon is warned about; came between 10.0 and 11.1",
    "streams_are_trees": "-netdev stream and dgram are trees of keys and values; came between 5.2 and 7.2",
    "audio_without_model": "-audio may name no model, and then makes no card; came between 7.2 and 10.0",
    "spice_is_module": "-spice is refused with the name of a package where its module is missing; false: it is"
    " always there; changed between 5.2 and 7.2",
    "plugin_help": "-plugin help lists what a plugin takes; came between 7.2 and 10.0",
    "smbios_slots": "-smbios knows type=9, slots; came between 7.2 and 10.0",
    "chardev_failure": "the text of chardev-add for a character device that cannot be opened",
    "drive_errors_marked": "drive_add and drive_del put 'Error: ' in front of what refuses them",
    "chardev_aliases": "what becomes of the second names (tty, parport) that two kinds of character devices had:"
    " 'taken', 'warned' about or 'refused'",
    "chardev_without_address": "a socket of -chardev needs no address",
    "client_wait_refused": "a socket of -chardev that connects is refused where it is told whether to wait; false: that"
    " is warned about",
    "multiplexers_always_busy": "chardev-remove refuses a multiplexer whoever uses it; went between 7.2 and 10.0",
    "size_language": "how sizes are read that are text: 'floating', 'strict' or 'exact' (qmpd.common.scalars).  Four"
    " releases were measured; the others are as the nearest",
    "tap_ways_apart": "a tap excludes the ways to have it (queues=, helper=, fds=, fd=) from one another before all"
    " else; false: each way names what cannot go with it.  Four releases were measured; the others are as the nearest",
    "socket_kind_first": "an open file for -netdev socket is asked whether it is a socket before it is made not to"
    " block.  Four releases were measured; the others are as the nearest",
    "config_faults_at_option": "of a fault in a file of -readconfig the option is named; false: the line of the file."
    "   Four releases were measured; the others are as the nearest",
    "snapshot_deletion_checks": "delvm is refused where a disk that can be written can have no snapshots; false: such a"
    " disk is left out; changed between 5.2 and 7.2",
    "snapshot_needs_active": "no snapshot is taken of a disk, or loaded, that another machine still has (-incoming);"
    " changed between 5.2 and 7.2",
    "snapshots_skip_earlier": "where something has a disk, a snapshot of all disks leaves out the nodes without a user"
    " that came before the last of those that have one (a fault of 10.0 alone)",
    "snapshot_columns": "the columns of info snapshots: 'classic', or 'wide' (underlined names, four digits of hours,"
    " and -- for no count of instructions); changed between 7.2 and 10.0",
    "luks_detached_header": "a LUKS volume tells whether its header is in another file; came between 7.2 and 10.0",
    "snapshots_everywhere_of_able": "info snapshots takes a snapshot for one of all disks where those that"
    " can have none lack it; seen in 10.0 alone",
    "block_statistics_table": "info blockstats shows a table for each drive, no line; came between 10.0 and 11.1",
    "latency_boundaries_may_be_none": "block-latency-histogram-set takes an empty list of boundaries; went"
    " between 7.2 and 10.0",
    "graph_permission": "among what users of a node let others do is changing the graph; went between 5.2 and 7.2",
    "written_disks_stay": "a migration fails where a backup, or a filter that saves old data, still writes to"
    " a disk; came between 5.2 and 7.2",
    "snapshot_list_marked": "info snapshots puts 'Error: ' in front of what it cannot do; came between 10.0 and 11.1",
    "state_errors_told": "what is wrong with the state of a machine that cannot be loaded is part of the error; false:"
    " it goes to standard error; changed between 10.0 and 11.1",
    "bare_state_size": "the bytes that the state of machine none takes in a snapshot",
    "machine_state_size": "the bytes that the state of a pc with 32 MiB takes in a snapshot that has not run; more"
    " memory takes more",
    "machine_state_growth": "the bytes that it takes more once its firmware has run",
    "dump_formats": "the formats that query-dump-guest-memory-capability lists",
    "windows_dump_checked": "a dump for Windows is refused at once where the guest has left no note for it; came "
    "between 10.0 and 11.1",
    "memory_kept_from_incoming": "memsave and pmemsave are refused during a migration; came between 10.0 and 11.1",
    "guest_forwards_to_host": "a user network forwards the guest's connections to the host's own address (a matter of"
    " the library that the program was built with)",
    "job_completes_in_standby": "job-complete is taken in standby, and takes effect at the resume",
    "job_pause_wakes": "a job that sleeps for its limit of speed is woken to be paused; false: it is paused when it"
    " wakes by itself",
    "job_rests_whole": "a job that is woken early goes on sleeping until its limit of speed lets it go on",
    "job_soft_cancel_completes": "at quit a job that is ready is completed; false: all jobs are cancelled",
    "job_drains_at_end": "how often disks are drained at quit, and with them jobs paused; in the last of these drains"
    " the jobs are cancelled",
    "stream_has_filter": "block-stream puts a copy-on-read node on top of its image",
    "device_options_in_order": "-device sets its properties in the order in which they stand there; false: in that"
    " of a dictionary, as everything else does",
    "bus_listed_by_option": "-device lists what is on a bus where it does not find there what it looks for; false:"
    " the human monitor alone does",
    "node_of_unplaced_cpu": "the memory node that a CPU may be said to be of where the machine has none; -1: no node",
    "usb_devices_deprecated": "-usbdevice is told to be old",
    "plugins_built": "-plugin is there: it was compiled in",
    "audio_backends_are_objects": "an -audiodev is an object, so no two may have one id; came between 10.0 and 11.1",
    "pretty_needs_control": "-mon pretty=on is refused where the monitor is none for programs; false: it is warned"
    " about",
    "hyperv_vendor_checked": "a CPU's hv-vendor-id that is too long is warned about, without KVM too",
    "exports_deleted_after_reply": "an export that is deleted is told of after the command's reply; changed between"
    " 5.2 and 7.2",
    "newest_exports_end_first": "where several exports end together the newest is told of first; changed between 7.2"
    " and 10.0",
    "exports_end_last": "at quit exports end after jobs; false: before them; changed between 5.2 and 7.2",
    "writable_exports_shared": "NBD's clients are told that several connections to a writable export see each other's"
    " writes; came between 5.2 and 7.2",
    "nbd_clients": "how many clients an NBD server serves at once where it is not told, 0 without limit; changed"
    " between 5.2 and 7.2",
    "nbd_patience": "how many seconds an NBD client has to negotiate where the server is not told, 0 without limit;"
    " changed between 5.2 and 7.2",
    "nbd_tls_over_ip_only": "an NBD server speaks TLS over IP alone; changed between 5.2 and 7.2",
    "screendump_has_format": "the human monitor's screendump may say the format of the picture",
    "sound_capture_deprecated": "the human monitor's commands that capture sound are warned about",
    "device_errors_marked": "pcie_aer_inject_error and mouse_set put 'Error: ' in front of what refuses them",
    "registers_of_one_cpu": "the human monitor's info registers may name a CPU",
    "device_tree_in_brief": "the human monitor's info qtree may be told to be brief",
    "migration_told_whole": "the human monitor's info migrate may be told to show all",
    "vnc_misuse_marked": "the human monitor's change puts 'Error: ' in front of what refuses it for a VNC display",
    "vnc_address_changes": "the human monitor's change takes an address for a VNC display",
    "mirror_watches_source": "a mirror sees what is written straight to its source, below its own node",
    "mirror_tells_sizes": "a mirror tells of a target of another size; false: its error is 'Invalid argument'",
    "mirror_tells_synced": "query-block-jobs tells of a mirror whether both sides are written at once",
    "mirror_reads_source": "a mirror's node passes on that its source is read; false: it only writes there",
    "nbd_extended_headers": "NBD servers and clients agree on lengths of 64 bits; came between 7.2 and 10.0",
    "zeroes_unlimited": "qemu-io's 'write -z -n' takes any length; came between 5.2 and 7.2",
    "stream_filter_keeps_child": "a stream's node has what is below it until the job is dismissed; false: nothing",
    "node_demands": "nodes that do more below than they are asked for: raw parts resize, copy-before-write reads",
    "mirror_fails_early": "a mirror tells what it cannot read before its command is answered",
    "job_uses_node": "a block job counts as a user of its node until it is over, and a mirror's own node is there until"
    " it is dismissed",
    "job_create_waits": "blockdev-create of a format is answered before anything of it is looked at; false: what is"
    " wrong without a look at the disk shows first",
    "creatable_drivers": "the block drivers that blockdev-create can make images of",
    "job_drains": "how often jobs make QEMU drain all disks, and so pause other jobs: for each kind before it is"
    " created, after that, at its end and after it is gone",
    "job_created_in_drain": "a block job is created while all disks are drained",
    "module_faults_bare": "a module that is missing is told of without the program's name and the option",
    "chardev_opened_first": "chardev-add opens a device before it looks whether its id is taken",
    "tcp_addresses_named": "the human monitor takes an address of a socket that begins with 'tcp:'; came by 7.2",
    "mirror_looks_for_zeros": "a mirror looks whether its target is all zeros, and leaves out what the source lacks",
    "failover_pairs": "a primary is hidden: 'loose' as it is, 'checked' with a right id, 'strict' on a right bus, too",
    "inquiry_errors_marked": "the human monitor's info usb and info profile put 'Error: ' in front of what refuses"
    " them; came by 7.2",
    "virtio_listed_by_tree": "x-query-virtio lists devices as they lie in the tree; false: the newest first; came"
    " between 7.2 and 10.0",
    "unmapped_regions_told": "the human monitor's info pci says '(not mapped)' of a region without an address; came"
    " between 7.2 and 10.0",
    "memory_files_of_pages": "memory in a file has whole pages alone, and is refused otherwise; came between 7.2"
    " and 10.0",
    "downtime_is_size": "the human monitor reads the parameter downtime-limit as a size; false: as a whole number",
}
