"""What the man pages of users' commands say, and the tests of each sentence: rows of `t0_sentences`."""

from __future__ import annotations

from collections.abc import Sequence

from tests.sentences import FACT, Row
from tests.sentences_admin import HELP, VERSION

AD, CMD, ADMIN, MON, PAGE = "t5_admin", "t5_commands", "t0_admin", "t0_mosmon", "t0_mosmon_page"

MOSBESTNODE: Sequence[Row] = (
    ("prints the IP address", f"{AD}.test_the_best_node_is_printed t0_procfs.test_best_is_the_least_loaded_that_fits"),
    ("It prints 0", f"{AD}.test_no_node_fits"),
    ("MOSIX is told", "t0_node.test_best_reserves_only_when_told t0_procfs.test_best_is_the_least_loaded_that_fits"),
    ("Who only wants", "t0_node.test_best_reserves_only_when_told"),
    ("-u print", f"{AD}.test_the_best_node_is_printed"),
    ("-n only", f"{ADMIN}.test_questions_about_the_best_node t0_node.test_best_reserves_only_when_told"),
    ("-w wait", f"{AD}.test_waiting_for_a_node_that_fits"),
    ("-m mb", f"{AD}.test_no_node_fits t0_balance.test_best_fits_and_costs_least"),
    ("--json", f"{AD}.test_the_best_node_is_printed {AD}.test_no_node_fits"),
    ("--help", HELP),
    ("--version", VERSION),
)

VIEWS = f"{AD}.test_every_view_by_its_key"
DEAD = f"{AD}.test_a_dead_node_and_a_smaller_window"
MANY = f"{AD}.test_a_map_of_ten_thousand_nodes"
ONCE = f"{AD}.test_one_frame_for_scripts"
MOSMON: Sequence[Row] = (
    ("shows the nodes that have a number", f"{MON}.test_the_load {VIEWS}"),
    ("What is displayed", f"{VIEWS} {DEAD}"),
    ("Above each bar", f"{MON}.test_numbers_above_bars_are_short"),
    ("-w horizontal", f"{MON}.test_options {VIEWS}"),
    ("-v vertical", f"{MON}.test_vertical_numbers {VIEWS}"),
    ("-V tight", f"{MON}.test_two_hundred_nodes_can_all_be_seen_at_80_by_24 {VIEWS}"),
    ("-t display", f"{MON}.test_count {DEAD}"),
    ("-d display", f"{MON}.test_the_dead_are_shown_only_if_asked_for {DEAD}"),
    ("-s display", f"{MON}.test_speeds_with_the_number_of_cpus"),
    ("-m display", f"{MON}.test_memory_is_solid_and_the_rest_of_the_total_extends_it {MON}.test_swap_in_gigabytes"),
    ("-f display", f"{MON}.test_small_numbers"),
    ("-c display", f"{MON}.test_small_numbers {ONCE}"),
    ("--paging", VIEWS),
    ("-l display", f"{MON}.test_the_load {MON}.test_options"),
    ("--once", ONCE),
    ("Its size", ONCE),
    ("--json", f"{ONCE} {MON}.test_json_keeps_what_is_not_known"),
    ("Keys: number", f"{MON}.test_json_keeps_what_is_not_known t0_node.test_the_table_of_numbered_nodes"),
    ("--html file", f"{PAGE}.test_every_node_is_in_the_ring_and_in_the_list {PAGE}.test_ways_between_nodes"),
    ("It is one file",
     f"{PAGE}.test_nothing_comes_from_elsewhere_and_nothing_is_a_script {PAGE}.test_whatever_somebody_chose_is_text"),
    ("The file is replaced", f"{PAGE}.test_the_file_is_written_whole_or_not_at_all"),
    ("Root sees", f"{PAGE}.test_what_others_hide_is_counted"),
    ("Loads are known", f"{PAGE}.test_curves_end_now_and_have_gaps"),
    ("--help", HELP),
    ("--version", VERSION),
    ("v vertical", VIEWS),
    ("V tight", f"{VIEWS} {MANY}"),
    ("w horizontal", VIEWS),
    ("a automatic", f"{MON}.test_automatic_numbering {VIEWS}"),
    ("s CPU-speeds", f"{MON}.test_speeds_with_the_number_of_cpus {VIEWS}"),
    ("m used memory", f"{MON}.test_memory_is_solid_and_the_rest_of_the_total_extends_it {VIEWS}"),
    ("Again: the same", f"{MON}.test_swap_in_gigabytes {VIEWS}"),
    ("f number", VIEWS),
    ("c number", VIEWS),
    ("g paging", VIEWS),
    ("l load", VIEWS),
    ("d also nodes", f"{VIEWS} {DEAD}"),
    ("D only nodes", f"{VIEWS} {DEAD}"),
    ("t the count", VIEWS),
    ("right, left", f"{MANY} {MON}.test_keys_never_scroll_past_the_ends"),
    ("n one screen", f"{MANY} {MON}.test_a_big_map_is_scrolled_through"),
    ("p one screen", f"{MON}.test_keys_never_scroll_past_the_ends {MON}.test_a_big_map_is_scrolled_through"),
    ("h a help screen", f"{VIEWS} {MON}.test_help_names_every_key"),
    ("enter redraw", VIEWS),
    ("q quit", VIEWS),
)

MOSKILLALL: Sequence[Row] = (
    ("sends a signal", f"{AD}.test_all_are_signalled {AD}.test_users_signal_their_own {ADMIN}.test_who_is_signalled"),
    ("MOSIX processes are those", f"{AD}.test_all_are_signalled {AD}.test_native_programs_are_not_signalled"),
    ("signum", f"{AD}.test_all_are_signalled t0_options.test_a_number_out_of_range_is_named_as_it_was_written"),
    ("-HUP, -INT", f"{ADMIN}.test_every_signal_of_the_manual t0_options.test_a_signal_may_be_written_in_every_way"),
    ("SIGSTOP, which", f"{AD}.test_stop_becomes_tstp"),
    ("--help", HELP),
    ("--version", VERSION),
    ("A process that forks", FACT),
)

USED = f"{AD}.test_cpu_time_is_counted_wherever_it_is_used"
ENDED = f"{AD}.test_cpu_time_of_ended_programs_is_remembered"
MOSTIMEOF: Sequence[Row] = (
    ("prints how many seconds", USED),
    ("System time", ENDED),
    ("It must be asked", f"{AD}.test_the_time_of_a_guest_is_asked_for_at_home"),
    ("What a process has used", USED),
    ("A process that has used",
     f"{ENDED} t0_procfs.test_what_has_ended_is_remembered_for_an_hour_and_within_bounds"),
    ("Its time then", ENDED),
    ("Of a process that has ended", FACT),
    ("--json", f"{ENDED} {USED}"),
    ("--help", HELP),
    ("--version", VERSION),
)

LOADS = f"{AD}.test_loads_away_from_home"
MOSTESTLOAD: Sequence[Row] = (
    ("makes artificial load", LOADS),
    ("Start it by", FACT),
    ("-t seconds", f"{ADMIN}.test_durations {ADMIN}.test_random_durations {ADMIN}.test_the_time_is_over"),
    ("-l min", f"{ADMIN}.test_both_example_styles {ADMIN}.test_half_of_the_older_style_is_told_last {LOADS}"),
    ("-m mb", f"{ADMIN}.test_memory_is_filled {ADMIN}.test_more_memory_than_there_is"),
    ("--random-mem", f"{ADMIN}.test_memory_is_filled"),
    ("Otherwise all bytes", f"{ADMIN}.test_memory_is_filled"),
    ("--cpu N", f"{ADMIN}.test_the_units_are_all_there_is {ADMIN}.test_the_time_ends_units_between_system_calls_too {LOADS}"),
    ("A unit is", FACT),
    ("--read size", f"{ADMIN}.test_chunks {LOADS}"),
    ("At its end", f"{ADMIN}.test_reading_begins_again_at_the_end"),
    ("--write size", f"{ADMIN}.test_chunks {LOADS}"),
    ("--noiosyscall", f"{ADMIN}.test_chunks {LOADS}"),
    ("-d directory", f"{ADMIN}.test_a_load_leaves_no_file"),
    ("It has no name", f"{ADMIN}.test_a_load_that_is_killed_leaves_no_file"),
    ("-f filename", f"{ADMIN}.test_a_file_does_not_grow_beyond_its_limit {ADMIN}.test_a_file_that_is_not_there"),
    ("It is kept", f"{ADMIN}.test_a_file_does_not_grow_beyond_its_limit"),
    ("--maxiosize", f"{ADMIN}.test_a_file_does_not_grow_beyond_its_limit"),
    ("-v, --verbose", f"{ADMIN}.test_what_is_done_is_told"),
    ("--report-migrations", f"{AD}.test_a_load_tells_of_its_migrations"),
    ("-r, --report", f"{ADMIN}.test_a_load_leaves_no_file {LOADS}"),
    ("--sleep SEC", f"{ADMIN}.test_what_is_done_is_told"),
    ("-h, --help", HELP),
    ("--version", VERSION),
    ("A value may be glued", f"{ADMIN}.test_chunks {ADMIN}.test_kinds_of_options"),
)

STARTS = f"{CMD}.test_where_a_program_starts"
WHERE: Sequence[Row] = (
    ("Without any of these", f"t1_control.test_home_and_best {AD}.test_all_are_signalled"),
    ("-b on the best", f"{CMD}.test_best_node_is_one_of_them t0_procfs.test_best_is_the_least_loaded_that_fits"),
    ("It is the home-node if", "t1_control.test_home_and_best t0_partners.test_the_best_node_may_change_its_mind"),
    ("-r host", f"{STARTS} t1_control.test_launcher_gets_a_tracer {CMD}.test_a_node_that_is_not_in_the_map"),
    ("n on the node", f"{STARTS} {CMD}.test_a_node_that_is_not_in_the_map"),
    ("-h in", STARTS),
    ("-F if", f"{CMD}.test_a_node_that_is_down {CMD}.test_a_node_that_is_not_in_the_map"),
)

LIMITS, SHARED, OUTLIVE, TRACE, LEVELS = "t5_limits", "t5_shared", "t5_outlive", "t5_trace", "t5_levels"
ARRIVE = f"{CMD}.test_options_arrive"
REQUEST = "t0_options.test_the_launchers_request"
AT_HOME = f"{CMD}.test_who_asks_is_told_which_file_keeps_it_home"
REFUSED = f"{CMD}.test_threads_are_refused_by_a_mosrun_within_another"
HOW: Sequence[Row] = (
    ("-m mb", ARRIVE),
    ("Nodes with less", "t0_balance.test_best_fits_and_costs_least t1_control.test_who_is_refused"),
    ("With -b the program", f"{AD}.test_a_program_with_b_and_m_begins_when_a_node_has_room"),
    ("-e an unsupported", f"{LIMITS}.test_e_returns_enosys_silently"),
    ("-w the same", f"{LIMITS}.test_w_prints_a_message_each_time"),
    ("-u reverse", f"{LIMITS}.test_u_reverses"),
    ("--stay-home", f"{LIMITS}.test_unsupportok_3_stays_at_home"),
    ("If it is away", f"{CMD}.test_with_stay_home_refused_threads_work_at_home"),
    ("--outlive", f"{OUTLIVE}.test_what_a_program_has_done_is_not_done_again {OUTLIVE}.test_at_some_random_moments"),
    ("The file outliving", f"{OUTLIVE}.test_no_other_node_takes_it t0_outlive.test_what_is_shown"),
    ("Images take about", FACT),
    ("--no-threads", f"{CMD}.test_who_is_killed_is_told_what_helps {REFUSED}"),
    ("Without this option", f"{CMD}.test_threads_need_no_option"),
    ("--threads", f"{REFUSED} t0_mosrun_conf.test_threads_that_are_refused"),
    ("--share-memory", f"{SHARED}.test_whoever_is_asked_all_go"),
    ("Processes that share", f"{SHARED}.test_whoever_is_asked_all_go {SHARED}.test_where_one_cannot_go_none_goes"),
    ("For the call that maps", f"{SHARED}.test_requests_for_several_follow_each_other {SHARED}.test_more_pieces_than_there_can_be"),
    ("Those that share a file", "t5_programs.test_away t5_programs.test_in_motion"),
    ("The file why", f"{SHARED}.test_where_one_cannot_go_none_goes {AT_HOME}"),
    ("Other files", f"{SHARED}.test_without_the_option_it_is_refused"),
    ("--no-share-memory", f"{SHARED}.test_without_the_option_it_is_refused"),
    ("--trace", f"{TRACE}.test_on_standard_error_at_home {TRACE}.test_to_a_file_away"),
    ("Flags and choices", f"{TRACE}.test_on_standard_error_at_home {TRACE}.test_to_a_file_away"),
    ("Away all calls", f"{TRACE}.test_to_a_file_away"),
    ("At home most calls", f"{TRACE}.test_on_standard_error_at_home"),
    ("--cpu",
     f"{LEVELS}.test_a_program_is_told t0_levels.test_names_that_the_launcher_knows {LEVELS}.test_other_levels_are_refused"),
    ("It is told so", f"{LEVELS}.test_a_program_is_told {LEVELS}.test_children_choose_alike_at_home_and_away"),
    ("A program that asks", f"{LEVELS}.test_the_reason_names_the_features"),
    ("-L do not", f"{ARRIVE} t5_balance.test_a_locked_program_stays"),
    ("It can still be moved", USED),
    ("-l reverse", f"{ARRIVE} {CMD}.test_recursive_mosrun_inherits"),
    ("-g do not", f"{ARRIVE} t1_freezer.test_who_may_not_be_frozen_and_who_does_not_compute_is_left_alone"),
    ("-G reverse", REQUEST),
    ("-c leave", f"{ARRIVE} t5_balance.test_an_io_bound_program_comes_home_and_a_cpujob_does_not"),
    ("-n reverse", REQUEST),
    ("-d decay", f"{ARRIVE} t0_decisions.test_decay_is_the_share_kept_each_second"),
    ("Default 9976", ARRIVE),
    ("-z the arguments", "t1_launcher.test_argument_zero"),
    ("-p for", "t5_mosrun_conf.test_the_wrapper_of_the_manual"),
    ("-t, -T", REQUEST),
)

INHERITED = "t0_man.test_what_mosrun_within_mosrun_inherits_is_explained"
WITHIN: Sequence[Row] = (
    ("A program under", f"{CMD}.test_recursive_mosrun_inherits"),
    ("What is not given", f"{INHERITED} {CMD}.test_recursive_mosrun_inherits {CMD}.test_native_programs_are_outside"),
    ("Outside of it", "t1_launcher.test_native_outside_of_mosix_needs_no_mosd"),
    ("mosenv is for", "t1_launcher.test_the_environment_is_the_callers"),
    ("Ours is not", "t1_launcher.test_the_environment_is_the_callers"),
)

EXIT: Sequence[Row] = (
    ("That of the program",
     "t1_launcher.test_the_program_gets_arguments_status_and_nothing_else t5_kills.test_one_process_is_killed"),
    ("If it did not run", FACT),
    ("2 the command line", "t0_options.test_unknown_option_is_a_line_and_the_usage"),
    ("125 MOSIX", f"t1_launcher.test_mosd_is_not_running {CMD}.test_a_node_that_is_not_in_the_map"),
    ("126 the program", "t1_launcher.test_programs_that_cannot_be_run"),
    ("127 there is", "t1_launcher.test_programs_that_cannot_be_run"),
    ("With -S", "t5_queue.test_exit_status_is_the_number_of_failures t5_queue.test_more_than_255_failures "
     "t5_queue.test_the_first_signal_ends_the_starting_the_second_all"),
)

LIMITATIONS: Sequence[Row] = (
    ("clone may only", f"{LIMITS}.test_clone_as_fork_and_vfork_do t0_policy.test_each_row"),
    ("No writable shared memory",
     f"{LIMITS}.test_a_program_that_meets_an_unsupported_feature_terminates "
     "t0_policy.test_shared_memory_attached_to_read_is_served_at_home"),
    ("MAP_SHARED without", f"{LIMITS}.test_files_mapped_shared_stay_shared {AT_HOME}"),
    ("Anonymous memory", f"{LIMITS}.test_memory_mapped_shared_becomes_private_under_e"),
    ("No name spaces", "t0_policy.test_each_row"),
    ("With --stay-home these", "t0_policy.test_each_row t0_policy.test_each_alternative_of_a_row"),
    ("Options of prctl", "t0_policy.test_each_row t0_policy.test_prctl_options_of_the_body"),
    ("32-bit programs",
     f"t1_launcher.test_a_32_bit_program_runs_natively {LIMITS}.test_a_program_without_room_for_us_runs_natively"),
    ("To programs outside", FACT),
    ("A program with memory mapped", f"{LIMITS}.test_mapping_a_device"),
    ("Priorities, scheduling", f"{LIMITS}.test_cpus {LIMITS}.test_priorities_of_others"),
    ("In trees that", "t5_callers.test_inside_a_users_tree"),
    ("These system calls", "t0_man.test_the_limitations_list_what_the_table_refuses"),
    ("acct, add_key", "t0_man.test_the_limitations_list_what_the_table_refuses"),
    ("Many calls that", "t0_policy.test_served"),
    ("The page", FACT),
)

PAGES = {
    ("mosbestnode.1", "DESCRIPTION"): MOSBESTNODE,
    ("mosmon.1", "DESCRIPTION"): MOSMON,
    ("moskillall.1", "DESCRIPTION"): MOSKILLALL,
    ("mostimeof.1", "DESCRIPTION"): MOSTIMEOF,
    ("mostestload.1", "DESCRIPTION"): MOSTESTLOAD,
    ("mosrun.1", "Where to start"): WHERE,
    ("mosrun.1", "How it runs"): HOW,
    ("mosrun.1", "Mosrun within mosrun"): WITHIN,
    ("mosrun.1", "EXIT STATUS"): EXIT,
    ("mosrun.1", "LIMITATIONS"): LIMITATIONS,
}
