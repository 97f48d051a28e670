"""What mosd(8) says beside its configuration, and mosix(7) of files and of the interface for programs: rows of `t0_sentences`."""

from __future__ import annotations

from collections.abc import Sequence

from tests.sentences import FACT, Row
from tests.sentences_admin import CONFIGURATION, HELP, VERSION

SERVICE = "t4_mosd.test_in_the_foreground"
ALONE = "t5_restart.test_programs_do_not_need_mosd"
KILLED = "t4_mosd.test_killed_and_started_again"
LOG = "t4_mosd.test_the_log_is_opened_again"
STACKS = "t4_mosd.test_stacks_on_demand t5_trace.test_a_dump_on_a_signal_shows_programs_and_frames_and_harms_nobody"
PACKAGE = "t6_packages.test_programs_of_an_ordinary_user_spread"
UPGRADE = "t6_packages.test_an_upgrade_ends_no_program"
NO_FUSE = "t4_mosd.test_no_fuse_is_one_line t4_mosd.test_mosd_without_fuse_says_so"
NAMES = "t0_cluster_load.test_names_below_the_root"
KEYS = "t4_mosd.test_wrong_secret t0_wire_security.test_masquerading_is_a_violation"

#: mosd(8) before and behind its section Configuration.
DAEMON: Sequence[Row] = (
    ("makes a computer", "t4_mosd.test_peers_see_each_other t4_mosd.test_moving t4_mosd.test_the_tree_can_be_listed"),
    ("It goes to the background", "t4_mosd.test_configuration_errors_are_one_line t4_mosd.test_a_port_in_use_is_one_line"),
    ("On SIGTERM", "t5_commands.test_down_leaves_nothing t4_gossip.test_one_that_ends_says_so"),
    ("Running programs", f"{ALONE} t5_restart.test_a_program_that_ends_while_mosd_is_down"),
    ("Only moves", "t5_restart.test_a_move_while_mosd_is_away_is_refused_in_words"),
    ("If it was killed", KILLED),
    ("On SIGHUP", f"{LOG} t5_reload.test_a_new_secret_and_speed t2_log.test_a_log_that_was_moved_is_opened_again"),
    ("On SIGUSR1", STACKS),
    ("--root dir", f"{NAMES} t0_cluster_load.test_root_of_the_environment"),
    ("--kernel", "t2_kernel.test_one_line_for_each_that_is_missed t5_doctor.test_a_good_node"),
    ("--foreground", f"{SERVICE} t2_log.test_in_the_foreground_it_is_standard_error"),
    ("--tracer module", FACT),
    ("--help", HELP),
    ("--version", VERSION),
)
NETWORK: Sequence[Row] = (
    ("All on the node's own", "t4_mosd.test_a_port_in_use_is_one_line"),
    ("TCP port 253",
     "t0_wire_security.test_same_secret_joins_and_names_the_nodes t4_gossip.test_bad_datagrams_are_counted_and_change_nothing"),
    ("Root's daemons connect", "t1_door.test_daemons_connect_from_ports_that_only_root_has"),
    ("UDP 253", "t6_autoconf.test_forty_nodes_among_strangers"),
    ("MOSIX_ROOT", "t0_cluster_load.test_root_of_the_environment"),
    ("MOSIX_PORT_MIGRATE", "t0_cluster_load.test_ports t0_cluster_load.test_bad_ports"),
    ("MOSIX_LOG level", "t4_mosd.test_log_levels"),
    ("MOSIX_BALANCE", "t5_balance.test_balancing_is_off_in_an_ordinary_lab"),
    ("MOSIX_TRACE", "t5_trace.test_all_forwarded_calls_are_in_the_log"),
    ("MOSIX_RECORD", "t5_trace.test_a_recorded_move_is_shown_as_json t1_record.test_a_directory_that_others_can_enter_is_not_used"),
    ("The files hold", FACT),
    ("MOSIX_FAULT", "t5_faults.test_fault"),
    ("NOTIFY_SOCKET", SERVICE),
    ("MOSIX_LOG_FILE", LOG),
    ("/etc/mosix/", NAMES),
    ("/run/mosix/", NAMES),
    ("/run/mosd/sock", NAMES),
    ("/run/mosd/pid", f"{NAMES} t4_mosd.test_only_one_mosd"),
    ("/var/log/mosd.log", f"{NAMES} {LOG}"),
    ("/var/mosix/", NAMES),
    ("0 when it runs", "t4_mosd.test_configuration_errors_are_one_line t1_commands.test_unknown_option"),
    ("A cluster of", FACT),
    ("# mkdir", PACKAGE),
    ("Before maintenance", FACT),
    ("# echo 1", "t0_procfs.test_switches t5_admin.test_expel_returns_when_all_guests_are_gone"),
    ("As a service", f"{PACKAGE} {SERVICE}"),
    ("Both leave", UPGRADE),
    ("# service", UPGRADE),
    ("What is it doing", STACKS),
    ("# kill", STACKS),
    ("Its numbers", FACT),
    ("$ cat", "t0_metrics.test_everyone_may_read_the_file"),
    ("already running", "t4_mosd.test_only_one_mosd"),
    ("/dev/fuse", NO_FUSE),
    ("Authentication", KEYS),
    ("Nodes trust", FACT),
    ("Guests are sandboxed", "t5_attacks.test_away_nothing_comes_into_the_place_of_the_stub"),
    ("See docs", FACT),
)

TREE = "t5_control.test_every_file_from_a_second_shell"
FILES_OF = "t4_mosd.test_files_of_a_program"
OTHERS = "t4_mosd.test_others_may_not_look t0_procfs.test_only_the_owner_and_root_look_inside"
FREEZE = "t5_freezing.test_another_package_freezes_it t5_freezing.test_commands"
ENDED = ("t0_procfs.test_ended_programs_are_for_their_owner_and_root "
         "t0_procfs.test_what_has_ended_is_remembered_for_an_hour_and_within_bounds")
FORMS = "t5_control.test_the_three_forms"
MESSAGES = "t5_control.test_no_message_was_read_yet t0_procfs.test_the_last_message mailbox.c:reading"

#: mosix(7) before and behind its section freeze.conf.
FILES: Sequence[Row] = (
    ("A cluster of MOSIX", "t5_balance.test_programs_spread_out_by_themselves"),
    ("Such a program", "t5_programs.test_away t5_programs.test_in_motion"),
    ("Each node shows", f"{TREE} t5_commands.test_the_same_by_file"),
    ("Programs under", "t5_control.test_plain_cat_and_echo_under_mosrun"),
    ("self", "t0_procfs.test_self_leads_to_the_caller t3_operations.test_self"),
    ("proc/PID/", f"{FILES_OF} {OTHERS}"),
    ("where", "t0_procfs.test_where_a_program_is"),
    ("why", "t0_procfs.test_why_tells_the_latest_reason"),
    ("move", "t0_procfs.test_move_shows_the_last_request_until_the_tracer_answers"),
    ("frozen", FREEZE),
    ("A automatically", f"{FREEZE} t1_freezer.test_without_a_policy_nothing_is_frozen_and_everything_goes_on"),
    ("N/A", "t5_freezing.test_a_program_that_cannot_leave_cannot_be_frozen"),
    ("A program that Slurm", "t5_freezing.test_who_is_stopped_by_slurm_is_frozen_too "
     "t5_slurm.test_a_suspended_job_is_frozen_wherever_it_is"),
    ("It may be written", FREEZE),
    ("freezing", FREEZE),
    ("awaytime", "t5_admin.test_cpu_time_is_counted_wherever_it_is_used"),
    ("stat", "t0_procfs.test_stat_of_a_program_has_every_field t0_procfs.test_the_path_of_a_program_is_where_it_came_to"),
    ("ended/PID/", ENDED),
    ("guests/PID/", "t0_procfs.test_guests t5_commands.test_out_sends_a_guest_home"),
    ("ptf/PID/", "t5_private.test_the_owner_can_look_where_the_files_are"),
    ("nodes/a.b.c.d/", "t0_procfs.test_nodes t4_mosd.test_peers_see_each_other"),
    ("node/ this", "t0_procfs.test_nodes"),
    ("Root writes 0", "t0_procfs.test_switches t0_procfs.test_loads_of_the_last_hour t0_procfs.test_decision_log_is_for_everybody "
     "t5_reload.test_a_map_that_shrinks_brings_home_what_is_away t0_metrics.test_everyone_may_read_the_file"),
    ("Questions", "t3_operations.test_a_question_is_answered_on_the_same_open_file t5_admin.test_whois"),
    ("priority", "t0_procfs.test_priority_of_what_runs_here"),
    ("Reading and writing", "t0_procfs.test_how_a_setting_ends"),
    ("Errors", FACT),
    ("EACCES", f"{OTHERS} t0_procfs.test_migrate_refuses t0_procfs.test_what_is_gone_is_gone "
     "t0_procfs.test_without_a_tracer_writes_say_try_again"),
)
INTERFACE: Sequence[Row] = (
    ("A program under", FORMS),
    ("open /proc/self/{special} 0", FORMS),
    ("open /proc/self/{special} 1", FORMS),
    ("open /proc/self/{special} 2", FORMS),
    ("Without MOSIX", "t5_control.test_outside_mosrun t5_control.test_directions_and_nonsense t0_control_calls.test_range"),
    ("Any of open", "t5_control.test_every_call_that_opens t0_control_calls.test_every_control_file_by_each_call"),
    ("An IP address", "t5_control.test_addresses_are_sign_extended"),
    ("The names below", TREE),
    ("migrate w", "t5_control.test_migrate_whereami_nmigs t5_control.test_a_move_is_considered"),
    ("Returns when", "t5_control.test_migrate_whereami_nmigs t5_control.test_a_move_is_considered"),
    ("EHOSTUNREACH", "t5_control.test_migrate_whereami_nmigs t0_procfs.test_migrate_refuses"),
    ("lock", f"{FORMS} t5_balance.test_a_locked_program_stays"),
    ("freezable", f"{FORMS} t1_freezer.test_who_may_not_be_frozen_and_who_does_not_compute_is_left_alone"),
    ("outlive", f"{FORMS} t5_outlive.test_at_some_random_moments"),
    ("whereami", "t5_control.test_migrate_whereami_nmigs"),
    ("nmigs", "t5_control.test_a_child_inherits_nmigs_but_not_checkpoints"),
    ("sigmig", "t5_control.test_sigmig t5_signals.test_a_program_is_told_of_its_moves"),
    ("needmem", f"{FORMS} t0_procfs.test_table_is_the_manuals"),
    ("unsupportok", f"{FORMS} t5_commands.test_who_is_killed_is_told_what_helps"),
    ("clear", "t5_balance.test_clear_and_decay"),
    ("cpujob", f"{FORMS} t5_balance.test_an_io_bound_program_comes_home_and_a_cpujob_does_not"),
    ("decayrate", f"{FORMS} t5_balance.test_clear_and_decay"),
    ("checkpoint rw", "t5_checkpoints.test_own_request t5_control.test_checkpoint_files"),
    ("Writing returns", "t5_checkpoints.test_own_request"),
    ("EAGAIN if", "t5_checkpoints.test_what_cannot_be_checkpointed"),
    ("As a file it", "t0_procfs.test_checkpoints t5_checkpoints.test_stops_after_it"),
    ("checkpointfile", "t5_control.test_checkpoint_files t0_procfs.test_names_of_checkpoints"),
    ("The file can", "t5_control.test_checkpoint_files"),
    ("checkpointlimit", "t5_checkpoints.test_versions_are_recycled"),
    ("checkpointinterval", f"{FORMS} t0_procfs.test_table_is_the_manuals"),
    ("These three", "t5_control.test_a_child_inherits_nmigs_but_not_checkpoints"),
    ("in_cluster r", "t5_control.test_in_cluster t0_control_calls.test_in_cluster_is_always_a_question"),
    ("As a file:", "t0_procfs.test_in_cluster_answers_a_write_by_success"),
    ("sender_home", MESSAGES),
    ("sender_pid", MESSAGES),
    ("sender_location", MESSAGES),
    ("message_length", MESSAGES),
    ("If none was read", MESSAGES),
    ("In mosix.h", "t5_control.test_example_in_c t5_control.test_the_header_works_in_cxx"),
    ("The Python module", "t5_control.test_example_in_python"),
    ("It is one file", "t1_commands.test_the_interface_with_the_systems_python"),
    ("PYTHONPATH", "t1_commands.test_the_interface_with_the_systems_python"),
    ("Programs that use", "t5_control.test_example_in_c t5_control.test_example_in_python t5_mailbox.test_examples"),
    ("The page of each", "t1_commands.test_it_has_a_page"),
    ("All of them end", "t0_options.test_output_that_cannot_be_written_is_one_line_and_a_status"),
    ("In C", "t5_control.test_example_in_c"),
    ("#include", "t5_control.test_example_in_c"),
    ("In Python", "t5_control.test_example_in_python"),
    ("from mosfs", "t5_control.test_example_in_python"),
    ("In a shell", FACT),
    ("$ head", "t5_commands.test_the_same_by_file"),
    ("Opening a control", "t5_control.test_plain_cat_and_echo_under_mosrun"),
    ("/proc/mosix is there", "t5_control.test_plain_cat_and_echo_under_mosrun"),
)

MOSD = (*DAEMON, *CONFIGURATION, *NETWORK)
