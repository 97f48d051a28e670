"""What the man pages say of administration and of the private queue, and the tests of each sentence: rows of `t0_sentences`."""

from __future__ import annotations

from collections.abc import Sequence

from tests.sentences import FACT, Row

HELP = "t0_options.test_help_names_every_option"
VERSION = "t0_options.test_version_of_the_package"
FOUND = "t0_autoconf.test_all_nodes_are_found_and_configured"
TICKET = "t0_autoconf.test_a_ticket_is_for_one_asker_one_request_and_a_while"
NOT_ALL = "t0_autoconf.test_nobody_writes_unless_everybody_would"
TAKES = "t0_autoconf.test_a_node_takes_what_mosd_would_take_and_keeps_the_old"
THREE = "t6_packages.test_nodes_with_a_key_are_found_and_configured"
SUBNET = "t6_autoconf.test_forty_nodes_among_strangers"

MOS_AUTOCONF: Sequence[Row] = (
    ("finds all nodes", f"{FOUND} t0_autoconf.test_the_first_two_digits_of_versions {SUBNET} {THREE}"),
    ("Before, all nodes", f"{SUBNET} {THREE}"),
    ("The subnet is no larger", "t0_autoconf.test_what_is_no_subnet"),
    ("It is no tool", FACT),
    ("It asks for", "t0_autoconf.test_the_questions"),
    ("Nodes of other versions", f"t0_autoconf.test_strangers_other_keys_and_other_versions_are_left_out {SUBNET}"),
    ("Where two nodes", f"t0_autoconf.test_two_nodes_with_one_address t0_autoconf.test_what_ends_it {SUBNET}"),
    ("Every node checks", f"{NOT_ALL} {TAKES}"),
    ("If a node is lost", f"{NOT_ALL} t0_autoconf.test_what_ends_it"),
    ("The former files", TAKES),
    ("A mosd 8 that runs", THREE),
    ("--subnet", "t0_autoconf.test_what_ends_it"),
    ("--number", "t0_autoconf.test_the_questions t0_autoconf.test_files_of_nodes"),
    ("--no-numbers", "t0_autoconf.test_files_of_nodes"),
    ("--yes", "t0_autoconf.test_without_questions_and_as_json"),
    ("--answers", "t0_autoconf.test_the_questions"),
    ("--list", f"t0_autoconf.test_without_questions_and_as_json {SUBNET}"),
    ("--json", f"t0_autoconf.test_without_questions_and_as_json {SUBNET}"),
    ("--answer be found", f"{SUBNET} {THREE}"),
    ("It answers nobody", f"t0_autoconf.test_messages_are_read_again_and_no_others {TICKET} {SUBNET}"),
    ("--then", THREE),
    ("--help", HELP),
    ("--version", VERSION),
)

LISTED = "t0_mosacct.test_the_list"
USED = "t5_mosrun_conf.test_what_a_program_has_used_is_written_at_its_end"
FILE = "t0_mosacct.test_an_accounting_file"
ENDED = "t5_admin.test_cpu_time_of_ended_programs_is_remembered"
MOSACCT: Sequence[Row] = (
    ("lists the programs", f"t0_mosacct.test_a_row {LISTED}"),
    ("Their times include", ENDED),
    ("Root sees all", "t0_mosacct.test_others_programs_are_left_out"),
    ("--all", f"{FILE} {USED}"),
    ("--file", FILE),
    ("--since", FILE),
    ("--user", "t0_mosacct.test_one_user_in_json"),
    ("--sum", "t0_mosacct.test_sums"),
    ("--json", "t0_mosacct.test_one_user_in_json"),
    ("--help", HELP),
    ("--version", VERSION),
    ("Without --all", ENDED),
    ("The accounting file has", f"{FILE} {USED}"),
    ("With --json", f"{FILE} {USED}"),
    ("Not held", FACT),
    ("Since a child's", FACT),
)

SHRINKS = "t5_admin.test_a_map_that_shrinks_brings_everybody_home"
WRONG = "t5_admin.test_a_wrong_map_changes_nothing"
NODES = "t5_admin.test_the_nodes_are_listed"
MOSSETPE: Sequence[Row] = (
    ("makes the running", SHRINKS),
    ("They are checked", WRONG),
    ("A cluster that mos_in_job", "t5_clusters.test_a_job_comes_and_goes"),
    ("Then it waits", SHRINKS),
    ("-m mapfile", SHRINKS),
    ("-p our.ip", f"{SHRINKS} {WRONG}"),
    ("While mosd", WRONG),
    ("-A do not wait", SHRINKS),
    ("-r list", NODES),
    ("-R list", f"{NODES} t5_clusters.test_what_nodes_know_of_each_other"),
    ("-off", "t5_admin.test_shutdown_loses_nothing"),
    ("--json", NODES),
    ("--help", HELP),
    ("--version", VERSION),
    ("Everybody may list", f"{NODES} {WRONG} t5_admin.test_without_a_daemon_it_is_one_line"),
)

FORCED = "t5_mosrun_conf.test_defaults_and_what_is_forced"
CONFIGURATION: Sequence[Row] = (
    ("does not start", "t4_mosd.test_configuration_errors_are_one_line t0_checkconf.test_all_files_are_told_at_once"),
    ("mosix.map", "t0_cluster_map.test_errors_name_file_line_and_value t0_cluster_map.test_round_trip"),
    ("A line a.b.c.d=host", "t0_cluster_map.test_round_trip t0_cluster_map.test_questions_to_a_map"),
    ("There may be 256",
     "t0_cluster_map.test_256_lines_are_allowed_and_257_are_not t0_cluster_map.test_comments_blanks_and_line_ends"),
    ("Addresses 0.0.x.x",
     "t0_cluster_map.test_extremes_of_the_address_range t0_cluster_map.test_errors_name_file_line_and_value"),
    ("secret one line", "t0_cluster_load.test_bad_secret t0_cluster_load.test_modes_of_a_secret"),
    ("userview.map", "t0_cluster_userview.test_errors_name_file_line_and_value t0_cluster_userview.test_round_trip"),
    ("mosip", "t0_cluster_load.test_bad_mosip t0_cluster_load.test_several_own_addresses_need_mosip"),
    ("speed", "t0_cluster_load.test_bad_speed t0_cluster_load.test_defaults"),
    ("freeze.conf", "t0_freezing.test_what_is_wrong_has_file_line_and_value"),
    ("private.conf", "t0_private.test_conf_errors_name_file_line_and_value"),
    ("O is for", "t0_private.test_conf_defaults_are_the_manual_s"),
    ("Without a line", "t5_private.test_without_a_line_guests_have_memory_only"),
    ("Without the file", "t0_private.test_conf_defaults_are_the_manual_s"),
    ("partners/NAME", "t0_partners.test_round_trip"),
    ("Line 1 describes", "t0_partners.test_round_trip"),
    ("Line 2 has", "t0_partners.test_what_is_wrong_in_a_file t0_partners.test_what_either_side_forbids_does_not_happen"),
    ("Each further line", "t0_partners.test_what_is_wrong_in_a_file"),
    ("Both clusters need", FACT),
    ("maxguests", "t0_partners.test_max_guests t5_clusters.test_guests_go_when_the_door_is_closed_and_come_when_it_is_opened"),
    ("As many as come", "t0_partners.test_without_files_there_is_one_cluster_and_no_limit"),
    ("retainpri", "t0_partners.test_retainpri t0_partners.test_a_priority_is_retained t5_clusters.test_a_priority_is_retained"),
    ("guestuids", "t0_owners.test_the_file"),
    ("Guests of different", "t0_owners.test_no_two_owners_have_the_same"),
    ("If there are fewer", "t0_owners.test_when_there_are_too_few_they_are_shared"),
    ("Where mosd is not root", FACT),
    (".log_mosrun", "t0_journal.test_who_called_mosrun t0_journal.test_moves_and_what_did_not_become_one "
     "t0_journal.test_nothing_is_said_unless_it_is_wanted_and_nobody_waits"),
    ("cpu the processor", "t0_levels.test_the_file_takes_each_name t0_levels.test_the_file_of_an_etc_is_the_default"),
    ("mosrun.conf", "t0_mosrun_conf.test_what_is_printed_is_read_again"),
    ("Nothing that is forced", FORCED),
    ("best default", f"t0_mosrun_conf.test_where_a_program_starts {FORCED}"),
    ("best forced", f"t0_mosrun_conf.test_where_a_program_may_not_start_when_the_best_node_is_forced {FORCED}"),
    ("unsupported", "t0_mosrun_conf.test_unsupported_calls"),
    ("threads refused", "t0_mosrun_conf.test_threads_that_are_refused"),
    ("memory mandatory", f"t0_mosrun_conf.test_memory_that_must_be_told {FORCED}"),
    ("programs n", "t0_mosrun_conf.test_limits_of_a_user t5_mosrun_conf.test_a_limit_of_programs_holds_over_a_restart_of_mosd"),
    ("starts n", "t0_mosrun_conf.test_limits_of_a_user t0_mosrun_conf.test_a_start_counts_once_when_its_tracer_has_it"),
    ("users name", "t0_mosrun_conf.test_who_may_use_mosrun_and_whose_programs_stay_in_the_cluster"),
    ("confined", "t5_mosrun_conf.test_programs_of_a_confined_user_stay_in_their_cluster"),
)

ORDER = "t5_queue.test_lines_are_started_in_their_order"
BROKEN = "t5_queue.test_lines_that_are_too_long_or_broken"
DOUBT = "t5_queue.test_when_the_runner_is_killed_too_a_line_is_in_doubt"
KILLED = "t5_queue.test_a_killed_queue_is_resumed"
QUEUE: Sequence[Row] = (
    ("-S runs the lines", "t5_queue.test_never_more_than_maxjobs_and_the_next_when_one_ends"),
    ("Each is a command", "t5_queue.test_exit_status_is_the_number_of_failures"),
    ("They are started", f"{ORDER} t5_queue.test_never_more_than_maxjobs_and_the_next_when_one_ends"),
    ("All other options", "t5_queue.test_all_other_options_apply_to_each_line t5_queue.test_a_node_that_does_not_exist"),
    ("Prepend exec", FACT),
    ("-S maxjobs", "t5_queue.test_commands_from_standard_input t0_queue.test_names_of_both_files t0_queue.test_how_many_at_a_time"),
    ("Lines that failed", "t5_queue.test_exit_status_is_the_number_of_failures t5_queue.test_more_than_255_failures"),
    ("A line of more", f"{BROKEN} t0_queue.test_too_long_a_line"),
    ("A device or pipe", "t0_queue.test_a_line_that_never_ends"),
    ("The standard input", "t5_queue.test_commands_from_standard_input"),
    ("--joblog", "t0_queue.test_rows_are_those_of_gnu_parallel t5_queue.test_the_joblog_has_node_and_moves"),
    ("While the queue runs", f"{DOUBT} t0_queue.test_wherever_it_ends_each_line_runs_once_or_is_in_doubt"),
    ("--resume with", f"{KILLED} t0_queue.test_what_the_past_tells"),
    ("Lines that a killed", KILLED),
    ("If nobody saw", DOUBT),
    ("A joblog of GNU", "t5_queue.test_a_joblog_of_gnu_parallel_is_resumed"),
    ("--resume-failed", f"{KILLED} t0_queue.test_what_the_past_tells"),
    ("--retries", "t5_queue.test_retries"),
    ("--halt", "t5_queue.test_halt t0_queue.test_halt t0_queue.test_when_halt_is_reached"),
    ("--timeout", "t5_queue.test_timeout t0_queue.test_seconds"),
    ("It gets SIGTERM", "t5_queue.test_timeout"),
    ("Waiting for memory", FACT),
    ("--delay", "t5_queue.test_delay"),
    ("--group", "t5_queue.test_output_in_order_and_not_mixed"),
    ("--keep-order", "t5_queue.test_output_in_order_and_not_mixed t0_queue.test_order_of_outputs"),
    ("--progress", "t5_queue.test_progress_where_there_is_no_terminal"),
    ("On a terminal", "t5_queue.test_progress_on_a_terminal t0_queue.test_lines_of_progress"),
    ("The first Ctrl-C", "t5_queue.test_the_first_signal_ends_the_starting_the_second_all t5_queue.test_waits_for_memory"),
    ("SIGHUP ends", "t5_queue.test_a_terminal_that_is_closed_ends_all t5_queue.test_mosps_shows_how_far_it_is"),
)

JOB = "t5_clusters.test_a_job_comes_and_goes"
REFUSED = "t0_job.test_what_mos_in_job_refuses"
MOS_IN_JOB: Sequence[Row] = (
    ("takes the node", JOB),
    ("It is meant for", FACT),
    ("world-file says", "t0_job.test_a_bad_world_file_is_refused_with_its_line"),
    ("Each line has", "t0_job.test_a_bad_world_file_is_refused_with_its_line"),
    ("This node must be", REFUSED),
    ("A third word", "t0_job.test_in_a_job_ours_may_go_to_the_others_and_theirs_may_not_come "
     "t0_job.test_a_bad_world_file_is_refused_with_its_line"),
    ("Empty lines", "t0_job.test_alone_theirs_may_come_and_ours_may_not_go"),
    ("own-cluster is", "t0_job.test_a_bad_list_of_nodes_is_refused"),
    ("This node must be", REFUSED),
    ("with own-cluster", JOB),
    ("To all others", f"t0_job.test_in_a_job_ours_may_go_to_the_others_and_theirs_may_not_come {JOB}"),
    ("without own-cluster", JOB),
    ("From all others", f"t0_job.test_alone_theirs_may_come_and_ours_may_not_go {JOB}"),
    ("It takes the place", "t0_job.test_another_map_goes_before_a_job_and_isolation_holds_in_it t0_job.test_a_job_needs_no_map "
     f"{JOB} t5_clusters.test_a_jobs_cluster_outlives_mosd"),
    ("Aliases", "t0_job.test_aliases_hold_where_their_node_is_in_the_world"),
    ("The others are called", "t0_job.test_in_a_job_ours_may_go_to_the_others_and_theirs_may_not_come"),
    ("waits until", JOB),
    ("-A do not wait", "t1_slurm.test_a_job_from_beginning_to_end"),
    ("--help", HELP),
    ("--version", VERSION),
    ("Only the Super-User", REFUSED),
    ("When something is wrong", f"{REFUSED} {JOB}"),
)

PAGES = {
    ("mos_in_job.1", "DESCRIPTION"): MOS_IN_JOB,
    ("mos_autoconf.1", "DESCRIPTION"): MOS_AUTOCONF,
    ("mosacct.1", "DESCRIPTION"): MOSACCT,
    ("mossetpe.1", "DESCRIPTION"): MOSSETPE,
    ("mosrun.1", "The private queue"): QUEUE,
}
