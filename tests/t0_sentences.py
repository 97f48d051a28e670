"""Every sentence of direct_communication(7), mospipe(1), mosctl(1), mosconf(1), mos_checkconf(1), mosmigrate(1), mosps(1), and
what mosrun(1) says of private files, checkpoints and freezing, names its tests; so do those of `sentences_admin`,
`sentences_users`, `sentences_mosix` and `sentences_manual`.

A row is how a sentence begins, and its tests: functions of test modules, or (``mailbox.c:`` and ``private.c:``) parts of the
test programs, which run at home, away and in motion. A row without tests has the reason in their place.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence

import pytest

from tests import sentences_admin, sentences_mosix, sentences_users
from tests.progs import SOURCES
from tests.sentences import FACT, Row, sentences
from tests.sentences_manual import MANUAL

#: What runs all parts of the test programs in the three modes.
RUNNERS = {
    "mailbox": ("t5_mailbox.test_every_sentence", "t5_mailbox.test_every_sentence_in_motion"),
    "private": ("t5_programs.test_at_home", "t5_programs.test_away", "t5_programs.test_in_motion"),
}
NO_MEMORY = "- the kernel does not refuse a few kilobytes to a process of root, as the desk's is"

DIRECT: Sequence[Row] = (
    ("A migrated program does", FACT),
    ("For data between", FACT),
    ("By direct communication a message",
     "t5_mailbox_faults.test_the_post_office_of_home_dies t5_mailbox_faults.test_on_one_node_no_network_is_used"),
    ("Each program under", "mailbox.c:opening"),
    ("It holds up to 10000", "mailbox.c:room t0_mailbox.test_ten_thousand_messages_and_32_megabytes"),
    ("Others send to it", "mailbox.c:inheritance t5_mailbox.test_other_homes_need_flag_4"),
    ("The order of messages",
     "mailbox.c:order t5_mailbox.test_order_and_count_while_all_move t5_mailbox.test_order_and_count_of_100_000"),
    ("them = open", "mailbox.c:opening"),
    ("a.b.c.d is the address", "t5_mailbox.test_other_homes_need_flag_4 t5_mailbox_faults.test_on_one_node_no_network_is_used"),
    ("Each write 2 is one", "mailbox.c:room"),
    ("It returns when", "mailbox.c:reading t5_mailbox.test_the_death_of_a_sender_takes_nothing_with_it"),
    ("If there is no room", "mailbox.c:room"),
    ("A process may have 128", "mailbox.c:errors"),
    ("They are inherited", "mailbox.c:inheritance"),
    ("Opened with O_APPEND", "mailbox.c:like_a_pipe"),
    ("Away from home such", "mailbox.c:like_a_pipe t5_mailbox.test_what_was_written_comes_before_what_is_done_next"),
    ("my_mbox = open", "mailbox.c:opening"),
    ("/proc/self/mybox", "mailbox.c:opening"),
    ("Without O_CREAT", "mailbox.c:opening"),
    ("1 Other users", "mailbox.c:rights t0_mailbox.test_who_may_send"),
    ("2 All other", "mailbox.c:rights t0_mailbox.test_who_may_send"),
    ("4 Processes", "t5_mailbox.test_other_homes_need_flag_4 t0_mailbox.test_who_may_send"),
    ("8 Do not wait", "mailbox.c:opening"),
    ("16 Send SIGIO", "mailbox.c:blocking t5_mailbox.test_sigio_finds_a_program_that_is_away"),
    ("32 Read the first", "mailbox.c:reading"),
    ("64 A message of", "mailbox.c:reading t0_mailbox.test_end_of_file_until_the_flag_is_cleared"),
    ("128 Not in", "mailbox.c:like_a_pipe"),
    ("What does not fit", "mailbox.c:reading t0_mailbox.test_a_stream_leaves_what_does_not_fit"),
    ("read 2 and readv 2", "mailbox.c:reading"),
    ("A count of 0", "mailbox.c:reading"),
    ("A count of -1", "mailbox.c:reading"),
    ("Opening again", "mailbox.c:opening"),
    ("Closing the last descriptor", "mailbox.c:opening mailbox.c:inheritance mailbox.c:filters"),
    ("A mailbox is kept", "mailbox.c:inheritance"),
    ("About the last message", "mailbox.c:reading t5_mailbox.test_other_homes_need_flag_4 t5_control.test_no_message_was_read_yet"),
    ("#include", "t0_mailbox.test_layouts_are_those_of_the_c_header"),
    ("From then on", "mailbox.c:filters"),
    ("Its contents count", "mailbox.c:filters"),
    ("The call returns the address", "mailbox.c:filters"),
    ("INTERESTED_IN_PID", "mailbox.c:filters t0_mailbox.test_conditions"),
    ("INTERESTED_IN_HOME", "mailbox.c:filters t0_mailbox.test_conditions"),
    ("INTERESTED_IN_MINLEN", "mailbox.c:filters t0_mailbox.test_conditions"),
    ("INTERESTED_IN_MAXLEN", "mailbox.c:filters t0_mailbox.test_conditions"),
    ("INTERESTED_IN_PATTERN", "mailbox.c:filters t0_mailbox.test_conditions"),
    ("INTERESTED_IN_MESSAGENO", "mailbox.c:filters t0_mailbox.test_conditions"),
    ("INTERESTED_IN_OFFSET", "mailbox.c:filters t0_mailbox.test_conditions"),
    ("PREVENT_REMOVAL", "mailbox.c:filters t0_mailbox.test_prevented_removal"),
    ("ioctl(my_mbox, SIOCSTOREINTERESTS", "mailbox.c:filters"),
    ("n = ioctl", "mailbox.c:filters"),
    ("The first stores", "mailbox.c:filters t0_mailbox.test_stored_filters_ignore_number_offset_and_removal"),
    ("The second tells", "mailbox.c:filters t0_mailbox.test_which_filters_have_messages"),
    ("/run/mosix/mbox", "t5_mailbox.test_a_mailbox_is_a_file"),
    ("Everybody can write", "t5_mailbox.test_a_mailbox_is_a_file"),
    ("Its sender is the process", "t5_rogues.test_a_file_of_mbox_names_who_opened_it"),
    ("Its owner can read", "t5_mailbox.test_a_mailbox_is_a_file"),
    ("Of senders", FACT),
    ("[ENOENT]", "mailbox.c:errors"),
    ("[EINVAL] in open", "mailbox.c:errors"),
    ("In write 2", "mailbox.c:errors"),
    ("[EMFILE]", "mailbox.c:errors"),
    ("[ESRCH]", "mailbox.c:errors t5_mailbox.test_the_death_of_a_receiver t5_mailbox_faults.test_the_receivers_host_dies"),
    ("This is found out", "mailbox.c:errors"),
    ("[EACCES]", "mailbox.c:rights mailbox.c:opening"),
    ("[ENOSPC]", "mailbox.c:room"),
    ("[ECONNABORTED]", "t5_mailbox_faults.test_a_home_that_leaves_the_map"),
    ("[ETIMEDOUT]", "t5_mailbox_faults.test_a_node_is_cut_off"),
    ("[ECONNREFUSED]", "t5_mailbox_faults.test_an_office_with_another_secret_refuses"),
    ("[EIO]", "t5_mailbox_faults.test_the_post_office_of_the_senders_node_dies"),
    ("Of receivers", FACT),
    ("[EAGAIN]", "mailbox.c:reading"),
    ("[EINVAL] Unknown flags", "mailbox.c:errors mailbox.c:reading mailbox.c:filters t0_mailbox.test_illegal_filters"),
    ("[ENODATA]", "mailbox.c:filters"),
    ("Of both", FACT),
    ("[EINTR]", "mailbox.c:blocking"),
    ("[EFAULT]", "mailbox.c:errors mailbox.c:filters"),
    ("[ENOMEM]", NO_MEMORY),
    ("[ENETUNREACH]", "t5_mailbox.test_the_death_of_a_post_office t5_mailbox_faults.test_the_post_office_of_home_dies"),
    ("[ECONNRESET]",
     "t5_mailbox.test_the_death_of_a_post_office t5_mailbox_faults.test_the_post_office_of_the_receivers_node_dies"),
    ("Opening it again", "t5_mailbox.test_the_death_of_a_post_office"),
    ("examples/mailbox.c", "t5_mailbox.test_examples"),
    ("Processes with descriptors",
     "t5_mailbox.test_mosrun_is_refused_with_a_mailbox t5_mailbox.test_a_receiver_can_run_neither_mosrun_nor_mosnative "
     "mailbox.c:blocking"),
)  # fmt: skip

MOSPIPE: Sequence[Row] = (
    ("runs programs as", "t5_mailbox.test_the_manuals_pipelines t5_mailbox.test_bytes_through_three_migrated_programs"),
    ("program1 args1|", "t5_mailbox.test_the_manuals_pipelines"),
    ("does, but they are", "t5_mailbox.test_a_gigabyte_through_three_migrated_programs"),
    ("Each program is one", "t5_mailbox.test_the_manuals_pipelines"),
    ("A backslash quotes", "t5_mailbox.test_the_manuals_pipelines"),
    ("If does not run under",
     "t5_mailbox.test_unsupported_calls_fail_as_with_e t5_mailbox.test_mospipe_under_mosrun_and_its_status"),
    ("They stand before", "t5_mailbox.test_the_manuals_pipelines"),
    ("-h start", "t5_mailbox.test_the_manuals_pipelines"),
    ("-b start", "t5_mailbox.test_an_unavailable_node"),
    ("-rhost", "t5_mailbox.test_the_manuals_pipelines"),
    ("-F run", "t5_mailbox.test_an_unavailable_node"),
    ("-L, -l", "t5_mailbox.test_the_manuals_pipelines"),
    ("-g, -G", "t5_mailbox.test_the_manuals_pipelines"),
    ("-mmb", "t5_mailbox.test_the_manuals_pipelines"),
    ("-e, -E", "t5_mailbox.test_the_manuals_pipelines"),
    ("--help", "t1_commands.test_help"),
    ("--version", "t1_commands.test_version"),
    ("That of the last", "t5_mailbox.test_mospipe_under_mosrun_and_its_status"),
    ("$ mospipe", "t5_mailbox.test_the_manuals_pipelines"),
    ("Compress and", "t5_mailbox.test_the_best_node_of_the_manuals_example"),
    ("$ b=", "t5_mailbox.test_the_best_node_of_the_manuals_example"),
    ("is for programs", FACT),
    ("What these are", FACT),
    ("mosrun 1 and mosnative", "t5_mailbox.test_mosrun_and_mosnative_cannot_run_under_mospipe"),
    ("Too many open files", "t5_mailbox.test_mosrun_and_mosnative_cannot_run_under_mospipe"),
    ("Writing 0 bytes", "t5_mailbox.test_an_empty_write_ends_the_input_of_the_next"),
    ("Children of a program", "t5_mailbox.test_children_of_a_receiver_cannot_read_its_input"),
    ("The programs should not", FACT),
)

PRIVATE: Sequence[Row] = (
    ("Files are on", FACT),
    ("Temporary files that", FACT),
    ("$ mosrun -b", "t5_private_examples.test_private_c"),
    ("All files that the program creates", "private.c:names t5_private.test_files_travel t5_private.test_nothing_is_left"),
    ("The directory need not", "private.c:names"),
    ("At most 10 directories", "t5_private.test_refusals t0_private.test_ten_directories_of_256_characters_are_allowed"),
    ("They start with", "t5_private.test_refusals t0_private.test_forbidden_directories"),
    ("Only regular files", "private.c:refusals t0_private.test_what_a_path_names"),
    ("Their names are given", "private.c:refusals t0_private.test_what_a_path_names"),
    ("They can be used with",
     "private.c:names private.c:descriptors private.c:refusals t0_private.test_the_documented_operations_are_served"),
    ("Permissions can be set", "private.c:names t0_private.test_stat_shows_root_whoever_it_is"),
    ("A child process begins", "private.c:forks"),
    ("They stay over", "private.c:execs"),
    ("Up to 10 MB", "private.c:growth t5_private.test_without_a_line_guests_have_memory_only"),
    ("The administrator sets", "t5_private.test_at_home_up_to_the_limit t5_private.test_a_guest_stays_within_its_limit"),
    ("A program that needs more", "t5_private.test_a_guest_beyond_its_limit_goes_home_and_goes_on"),
    ("When the home-node's limit", "t5_private.test_at_home_beyond_the_limit_write_fails"),
    ("If the tracer", "t5_private.test_after_the_death_of_its_tracer"),
    ("The owner can read", "t5_private.test_the_owner_can_look_where_the_files_are"),
)

MOSCTL: Sequence[Row] = (
    ("What changes something", "t5_admin.test_switches_are_the_super_users t5_clusters.test_only_the_super_user_decides"),
    ("They hold until they are cancelled", "t5_admin.test_switches"),
    ("stay processes do not", "t5_admin.test_switches"),
    ("nostay cancels", "t5_admin.test_switches"),
    ("lstay processes whose", "t5_admin.test_switches"),
    ("nolstay cancels", "t5_admin.test_switches"),
    ("block no guests", "t5_admin.test_a_blocked_node_takes_nobody_and_says_so"),
    ("noblock cancels", "t5_admin.test_a_blocked_node_takes_nobody_and_says_so"),
    ("Each returns when", "t5_admin.test_expel_returns_when_all_guests_are_gone"),
    ("Interrupting expel", FACT),
    ("expel sends all", "t5_admin.test_expel_returns_when_all_guests_are_gone"),
    ("New ones may come", FACT),
    ("bring brings back", "t5_admin.test_bring_returns_when_all_programs_are_here"),
    ("They may leave again", FACT),
    ("shutdown blocks", "t5_admin.test_shutdown_loses_nothing t0_node.test_shutdown_blocks_and_tells_the_daemon"),
    ("Programs go on", "t5_admin.test_shutdown_loses_nothing"),
    ("Without a node it is", "t5_admin.test_whois"),
    ("whois prints", "t5_admin.test_whois t0_node.test_whois"),
    ("status prints", "t5_admin.test_status_and_localstatus"),
    ("localstatus adds", "t5_admin.test_status_and_localstatus"),
    ("rstatus prints", "t5_admin.test_rstatus_is_what_the_node_is t0_node.test_every_integer_of_rstatus"),
    ("doctor examines this", "t0_doctor.test_a_node_without_mosd_is_examined t0_doctor.test_the_command"),
    ("It looks at the", "t0_doctor.test_a_node_without_mosd_is_examined t0_doctor.test_a_running_node_is_examined "
     "t5_doctor.test_a_good_node t5_doctor.test_two_machines_with_one_address t5_doctor.test_another_secret"),
    ("The exit status is 1", "t0_doctor.test_only_errors_fail t5_doctor.test_a_secret_that_others_can_read"),
    ("metrics address:port", "t1_metrics.test_it_prints_what_the_file_says"),
    ("With an address it serves", "t1_metrics.test_it_serves_what_the_file_says_now"),
    ("They change files of", "t5_clusters.test_priorities_are_changed"),
    ("isolate leaves the multi-cluster", "t5_clusters.test_a_node_is_isolated_and_rejoins"),
    ("It acts on this node", FACT),
    ("rejoin maxguests cancels", "t5_clusters.test_a_node_is_isolated_and_rejoins"),
    ("So many guests of other", "t5_clusters.test_a_node_is_isolated_and_rejoins"),
    ("maxguests maxguests prints", "t5_clusters.test_guests_go_when_the_door_is_closed_and_come_when_it_is_opened"),
    ("Those that are too many", "t0_partners.test_too_many_guests_leave_the_worst_and_latest_first"),
    ("openmulti maxguests sets", "t0_partners.test_how_many_guests_openmulti_lets_in"),
    ("closemulti sets it", "t5_clusters.test_guests_go_when_the_door_is_closed_and_come_when_it_is_opened"),
    ("cngpri partner newpri", "t5_clusters.test_priorities_are_changed t0_partners.test_another_priority_changes_nothing_else"),
    ("--json print", "t5_commands.test_json_of_mosctl_can_be_read"),
    ("--help print", FACT),
    ("--version print", FACT),
    ("status: the sum of", "t0_node.test_status_bits t0_partners.test_bits_of_rstatus"),
    ("load: 100 is", "t5_admin.test_rstatus_is_what_the_node_is"),
    ("availability: the worst",
     "t0_partners.test_the_priority_of_a_node_is_the_best_that_runs_there t0_partners.test_a_priority_is_retained"),
    ("speed: 10000", "t0_node.test_every_integer_of_rstatus"),
    ("number of processors", "t0_node.test_every_integer_of_rstatus"),
    ("number of frozen", "t0_node.test_every_integer_of_rstatus"),
    ("available memory", "t0_node.test_every_integer_of_rstatus"),
    ("total memory", "t0_node.test_every_integer_of_rstatus"),
    ("free swap-space", "t0_node.test_every_integer_of_rstatus"),
    ("total swap-space", "t0_node.test_every_integer_of_rstatus"),
    ("memory of guests that would", "t0_partners.test_what_makes_way_here_counts_as_free t0_partners.test_welcome_round_trip"),
    ("number of MOSIX processes", "t0_node.test_every_integer_of_rstatus"),
)

MENU = "t0_mosconf.test_a_menu_by_answers"
MOSCONF: Sequence[Row] = (
    ("leads through", f"{MENU} t0_mosconf.test_a_terminal"),
    ("At its first question", "t0_mosconf.test_this_node_without_mosd"),
    ("The path of a root image", "t0_mosconf.test_the_first_question_takes_an_image"),
    ("Then a menu", "t0_mosconf.test_a_terminal"),
    ("With a menu", MENU),
    ("What is in brackets", "t0_mosconf.test_enter_changes_nothing"),
    ("Lists are changed", f"{MENU} t0_mosconf.test_deleting_lines_keeps_comments"),
    ("nodes which nodes", MENU),
    ("Nodes are near", MENU),
    ("key authentication", "t0_mosconf.test_a_key_is_strong_private_and_never_shown"),
    ("It is made at random", "t0_mosconf.test_a_key_is_strong_private_and_never_shown"),
    ("numbers the numbers", f"{MENU} t0_mosconf.test_numbers_follow_the_map"),
    ("speed the speed", MENU),
    ("freezing when", f"{MENU} t0_mosconf.test_the_manual_s_freezing_policy"),
    ("mosrun parameters of mosrun", MENU),
    ("misc mosip", MENU),
    ("partners partner-clusters", f"{MENU} t0_mosconf.test_a_partner_is_changed_and_deleted"),
    ("At the end all files", "t0_mosconf.test_a_terminal t0_mosconf.test_a_key_is_strong_private_and_never_shown"),
    ("What mosd 8 would refuse", "t0_mosconf.test_what_does_not_fit_is_told_and_nothing_is_written"),
    ("What was wrong before", "t0_mosconf.test_an_empty_image_is_configured_step_by_step"),
    ("After another question", "t0_mosconf.test_a_disk_that_fails_leaves_what_was_there"),
    ("The former ones", f"{MENU} t0_mosconf.test_a_partner_is_changed_and_deleted"),
    ("A mosd 8 that runs", "t0_mosconf.test_a_mosd_that_runs_reads_them"),
    ("Where it cannot", "t0_mosconf.test_a_mosd_that_cannot_take_it_goes_on"),
    ("Nodes that use", "t0_mosconf.test_an_image_is_for_others_to_read"),
    ("--root dir", MENU),
    ("--answers file", MENU),
    ("An answer that does not fit", "t0_mosconf.test_what_does_not_fit_is_told_and_nothing_is_written"),
    ("--help", "t0_options.test_help_names_every_option"),
    ("--version", "t0_options.test_version_of_the_package"),
)

MOS_CHECKCONF: Sequence[Row] = (
    ("reads the files", "t0_checkconf.test_every_wrong_line_is_told t0_checkconf.test_all_files_are_told_at_once"),
    ("It prints nothing", "t0_checkconf.test_what_is_right t0_checkconf.test_the_command"),
    ("It changes nothing", "t0_checkconf.test_what_is_right"),
    ("Given files", "t0_checkconf.test_the_command_with_files"),
    ("--root dir", "t0_checkconf.test_a_root_image_needs_no_address_of_this_machine"),
    ("--json", "t0_checkconf.test_the_command"),
    ("--help", "t0_options.test_help_names_every_option"),
    ("--version", "t0_options.test_version_of_the_package"),
    ("Of a file with more", "t0_checkconf.test_a_file_full_of_nonsense_ends"),
    ("What is wrong between", "t0_checkconf.test_a_node_in_two_partners"),
    ("The secret is never", "t0_checkconf.test_the_secret_is_for_its_owner_and_never_shown"),
    ("Only who may read", FACT),
    ("Host names", FACT),
)

CK, CF, FR, FF = "t5_checkpoints", "t5_checkpoint_faults", "t5_freezing", "t5_freezing_faults"
CT = "t5_checkpoint_threads"
CHECKPOINT_OPTIONS: Sequence[Row] = (
    ("-C file", f"{CK}.test_versions_are_recycled t0_procfs.test_first_checkpoint"),
    ("The default is ckpt.pid", f"{CK}.test_stops_after_it"),
    ("-N max", f"{CK}.test_versions_are_recycled t5_control.test_the_three_forms"),
    ("-A minutes", "t1_checkpoints.test_every_so_many_minutes t5_control.test_the_three_forms"),
    ("--incremental", f"{CK}.test_incremental t0_increments.test_what_has_not_changed_is_not_written"),
    ("--compress memory", f"{CK}.test_compressed {FF}.test_a_compressed_file"),
    ("Incremental checkpoints are not", f"{CK}.test_compressed"),
    ("--no-compress", f"{CK}.test_compressed"),
    ("-R file", f"{CK}.test_goes_on_three_times {CK}.test_incremental"),
    ("Location options", f"{CK}.test_program_options_are_not_permitted {CK}.test_goes_on_three_times"),
    ("-O fd=file", f"{CK}.test_inspection_and_other_files"),
    ("Several are separated",
     f"t0_checkpoints.test_other_files t0_checkpoints.test_refused_lists {CK}.test_inspection_and_other_files"),
    ("--same-pid", f"{CT}.test_the_same_process_id_for_one_thread {CT}.test_a_number_that_is_in_use"),
    ("One with threads", f"{CT}.test_all_is_as_it_was_three_times"),
    ("-I file", f"{CK}.test_inspection_and_other_files"),
    ("--json", f"{CK}.test_inspection_and_other_files"),
)

CHECKPOINTS: Sequence[Row] = (
    ("A checkpoint file is an image", f"{CK}.test_goes_on_three_times"),
    ("One is taken by", f"{CK}.test_goes_on_three_times {CK}.test_own_request t1_checkpoints.test_every_so_many_minutes"),
    ("The program stands still", f"{CK}.test_it_is_of_one_moment"),
    ("While it is written", f"{CF}.test_writing {CK}.test_goes_on_three_times"),
    ("With --incremental", f"{CK}.test_incremental t0_increments.test_each_has_what_was_there_then"),
    ("So each folder",
     "t0_increments.test_what_has_not_changed_is_not_written t0_increments.test_each_has_what_was_there_then "
     f"{CK}.test_incremental {CK}.test_incremental_ones_are_recycled"),
    ("What is hardly used",
     f"t0_increments.test_what_is_hardly_used_is_written_again {CK}.test_incremental "
     "t0_increments.test_the_first_is_a_checkpoint_like_any_other"),
    ("A file that was changed",
     f"t0_increments.test_a_damaged_file_is_no_program {CK}.test_incremental "
     "t0_increments.test_what_somebody_changed_meanwhile_is_not_shared"),
    ("A file that was compressed",
     "t0_checkpoints.test_a_compressed_file_is_read t0_checkpoints.test_compressed_without_lzop "
     "t0_checkpoints.test_a_damaged_compressed_file t0_checkpoints.test_no_room_to_unpack_a_file"),
    ("Regular files and directories", f"{CK}.test_goes_on_three_times {CK}.test_inspection_and_other_files {CK}.test_what_is_gone"),
    ("Unlinked files are kept", f"{CK}.test_goes_on_three_times t0_checkpoints.test_only_what_the_descriptor_reads_is_kept"),
    ("Of special files", f"{CK}.test_terminals_are_those_of_mosrun"),
    ("With pipes", f"{CK}.test_a_pipe_is_counted"),
    ("A program with threads goes", f"{CT}.test_all_is_as_it_was_three_times {CT}.test_for_an_ordinary_user"),
    ("So has any", f"{CT}.test_the_same_process_id_for_one_thread"),
    ("The command", f"{CT}.test_the_parent_does_as_the_program_does"),
    ("If one of", f"{CT}.test_a_number_that_is_in_use t0_numbers.test_who_has_a_number"),
    ("Where the administrator's", "t0_numbers.test_where_none_can_be_chosen"),
    ("These cannot be",
     f"{CK}.test_what_cannot_be_checkpointed {CK}.test_with_the_rights_of_another {CT}.test_threads_that_would_not_be_the_same"),
    ("Locks on files",
     f"{CK}.test_terminals_are_those_of_mosrun {CK}.test_a_sleep_that_began_at_home_and_went_on_away "
     f"{CK}.test_of_another_user"),
)

FREEZING_SPACE: Sequence[Row] = (
    ("The memory of a frozen", f"{FR}.test_a_frozen_program_has_no_memory_and_goes_on_with_all_of_it"),
    ("FREEZE_DIR names", f"{FF}.test_a_user_has_freezing_space_of_his_own t0_freezing.test_a_users_file_has_directories_only"),
    ("They are written",
     f"{FF}.test_a_users_own_space_that_is_none_is_refused t0_checkpoints.test_it_is_written_with_the_rights_of_its_owner"),
)

ROWS_OF_FREEZE_CONF = "t0_freezing.test_every_field_is_read t0_freezing.test_what_is_wrong_has_file_line_and_value"
FREEZE_CONF: Sequence[Row] = (
    ("/etc/mosix/freeze.conf says", f"{FF}.test_max_procs_and_the_end_of_a_policy"),
    ("Lines may be", "t0_freezing.test_what_is_printed_is_read_again"),
    ("1 units red blue", f"{ROWS_OF_FREEZE_CONF} t0_freezing.test_omitted_fields_have_the_manuals_values"),
    ("Without it nothing",
     "t1_freezer.test_without_a_policy_nothing_is_frozen_and_everything_goes_on t0_freezing_policy.test_units "
     "t1_freezer.test_the_standard_load_counts_processors_and_their_speed"),
    ("Above red",
     "t0_freezing_policy.test_the_red_mark_freezes_until_the_load_is_not_above_it "
     "t0_freezing_policy.test_below_the_blue_mark_programs_go_on_but_not_above_the_red_one"),
    ("At home or above",
     "t0_freezing_policy.test_home_and_cluster_marks t1_freezer.test_tracers_hear_whether_evacuated_programs_are_frozen "
     "t0_freezing_policy.test_min_keep_go_on_whatever_the_load t0_freezing_policy.test_max_procs_holds_when_the_load_is_low"),
    ("While some are frozen", "t0_freezing_policy.test_after_a_slice_the_turn_is_anothers"),
    ("A program for which there is no room", f"{FF}.test_no_space_to_freeze {ROWS_OF_FREEZE_CONF}"),
    ("/directory weight", "t0_freezing.test_ten_directories_are_allowed t0_freezing.test_what_is_wrong_has_file_line_and_value"),
    ("Each program chooses",
     "t0_freezing.test_directories_are_chosen_by_weight t0_freezing.test_all_others_are_tried_and_weight_0_is_the_last "
     f"{FF}.test_a_full_directory_is_followed_by_the_next_one"),
    ("U uid", f"{FF}.test_files_are_made_as_the_user_of_the_configuration"),
    ("Programs of mosrun -g", "t1_freezer.test_who_may_not_be_frozen_and_who_does_not_compute_is_left_alone"),
    ("What was frozen by hand", f"{FR}.test_another_package_freezes_it"),
    ("A stopped program", f"{FR}.test_a_stopped_program_cannot_be_frozen {FF}.test_max_procs_and_the_end_of_a_policy"),
)

CMD = "t5_commands"
MOSMIGRATE: Sequence[Row] = (
    ("moves the process", f"{CMD}.test_a_process_is_moved_about"),
    ("It waits until", f"{CMD}.test_a_process_is_moved_about {CMD}.test_bad_moves_are_one_line"),
    ("Interrupting", FACT),
    ("Users move their own", f"{CMD}.test_ordinary_users_and_their_own_processes {CMD}.test_other_peoples_processes"),
    ("A process that cannot", f"{CMD}.test_bad_moves_are_one_line"),
    ("out is for root", f"{CMD}.test_out_sends_a_guest_home"),
    ("--no-wait", "t1_lab.test_mosmigrate_without_waiting"),
    ("--help", "t1_commands.test_help"),
    ("--version", "t1_commands.test_version"),
    ("checkpoint takes", f"{CK}.test_goes_on_three_times {CK}.test_stops_after_it"),
    ("freeze writes", f"{FR}.test_a_frozen_program_has_no_memory_and_goes_on_with_all_of_it"),
    ("It does not answer", f"{FR}.test_signals_with_a_handler_wait_until_it_goes_on {FR}.test_a_deadly_signal_ends_it"),
    ("One that is away", f"{FR}.test_a_frozen_program_has_no_memory_and_goes_on_with_all_of_it"),
    ("Guests cannot", f"{FR}.test_a_guest_cannot_be_frozen {FR}.test_a_program_that_cannot_leave_cannot_be_frozen"),
    ("Where frozen processes", f"{FR}.test_commands {FR}.test_a_stopped_program_cannot_be_frozen"),
    ("Writing to files", f"{CMD}.test_the_same_by_file {CF}.test_writing {FR}.test_another_package_freezes_it"),
)

PS, QUEUES = "t0_mosps", "t5_queue.test_mosps_shows_how_far_it_is"
MOSPS: Sequence[Row] = (
    ("lists MOSIX processes", f"{PS}.test_selection"),
    ("Its own columns", f"{PS}.test_columns_of_the_manual {PS}.test_every_column"),
    ("WHERE where", f"{PS}.test_where_has_the_manuals_words"),
    ("FROM its", f"{PS}.test_every_column"),
    ("ORIGPID", f"{PS}.test_every_column"),
    ("N/A for others", f"{PS}.test_every_column"),
    ("FRZ - not frozen", f"{PS}.test_frz_has_the_manuals_letters"),
    ("A automatically", f"{PS}.test_frz_has_the_manuals_letters {FR}.test_another_package_freezes_it {FR}.test_commands"),
    ("N/A for guests, and", f"{PS}.test_guests_have_neither_where_nor_frz {FR}.test_a_program_that_cannot_leave_cannot_be_frozen"),
    ("NMIGS how", f"{PS}.test_every_column t5_control.test_a_child_inherits_nmigs_but_not_checkpoints"),
    ("N/A for guests", f"{PS}.test_guests_have_neither_where_nor_frz"),
    ("-I show", f"{PS}.test_names_of_nodes {PS}.test_addresses_instead_of_numbers"),
    ("-h show", f"{PS}.test_names_of_nodes"),
    ("-M show", f"{PS}.test_names_of_nodes"),
    ("-L only", f"{PS}.test_selection"),
    ("-O only", f"{PS}.test_selection"),
    ("-n, -N", f"{PS}.test_columns_of_the_manual"),
    ("-P show", f"{PS}.test_columns_of_the_manual"),
    ("-V only", f"{PS}.test_selection"),
    ("WHERE and FRZ", f"{PS}.test_guests_have_neither_where_nor_frz"),
    ("-S instead", QUEUES),
    ("Others' queues", QUEUES),
    ("The processes that start", f"{PS}.test_what_starts_the_lines_of_a_queue_is_not_listed {QUEUES}"),
    ("With --json", QUEUES),
    ("--json one", f"{PS}.test_json_has_stable_keys"),
    ("Nodes are IP", f"{PS}.test_json_has_stable_keys"),
    ("--help", "t1_commands.test_help"),
    ("--version", "t1_commands.test_version"),
    ("Lists add up", f"{PS}.test_selection {PS}.test_bad_lists_are_user_errors"),
    ("Numbers without", f"{PS}.test_selection"),
    *((start, f"{PS}.test_selection") for start in (
        "-A, -e", "-a all", "-d all", "a also", "-x, x also", "T those", "-p list", "-t list", "-u list", "-g list", "-G list",
    )),
    *((start, f"{PS}.test_formats") for start in ("-f full", "-l, l", "-j, j", "u user")),
    ("-H, f", f"{PS}.test_forest_shows_depth {PS}.test_a_forest_has_every_tree_once_and_parents_first"),
    ("c the first", f"{PS}.test_names_and_numbers"),
    ("n user IDs", f"{PS}.test_names_and_numbers"),
    ("-w, w", f"{PS}.test_lines_are_as_wide_as_asked"),
    ("e the environment", f"{PS}.test_environment_after_the_command"),
    ("-T, -m", f"{PS}.test_the_letters_of_the_manual_are_accepted"),
)

PAGES = {
    ("mosrun.1", "Checkpoints"): CHECKPOINT_OPTIONS,
    ("mosrun.1", "CHECKPOINTS"): CHECKPOINTS,
    ("mosrun.1", "ALTERNATIVE FREEZING SPACE"): FREEZING_SPACE,
    ("mosix.7", ""): (*sentences_mosix.FILES, *FREEZE_CONF, *sentences_mosix.INTERFACE),
    ("mosd.8", ""): sentences_mosix.MOSD,
    ("mosmigrate.1", "DESCRIPTION"): MOSMIGRATE,
    ("mosps.1", "DESCRIPTION"): MOSPS,
    ("mosconf.1", "DESCRIPTION"): MOSCONF,
    ("mos_checkconf.1", "DESCRIPTION"): MOS_CHECKCONF,
    ("direct_communication.7", ""): DIRECT,
    ("mospipe.1", ""): MOSPIPE,
    ("mosrun.1", "PRIVATE TEMPORARY FILES"): PRIVATE,
    ("mosctl.1", "DESCRIPTION"): MOSCTL,
    **sentences_admin.PAGES,
    **sentences_users.PAGES,
}
ROWS = [(page, row) for (page, _), rows in PAGES.items() for row in rows]
ROWS += [(f"manual, {section}", row) for section, rows in MANUAL.items() for row in rows]


@pytest.mark.parametrize(("page", "section"), PAGES)
def test_every_sentence_has_its_row(page: str, section: str) -> None:
    said = sentences(page, section)
    rows = PAGES[page, section]
    assert [sentence[: len(row[0])] for sentence, row in zip(said, rows)] == [row[0] for row in rows][: len(said)]
    assert len(said) == len(rows)


@pytest.mark.parametrize(("page", "row"), ROWS, ids=[f"{page}: {row[0]}" for page, row in ROWS])
def test_its_tests_are_there(page: str, row: Row) -> None:
    if row[1].startswith("- "):
        return
    for name in row[1].split():
        program, _, part = name.partition(".c:")
        if part:
            source = (SOURCES / f"{program}.c").read_text()
            assert re.search(rf"^static void {part}\(void\)$", source, re.MULTILINE) and f"PART({part})" in source
            for runner in RUNNERS[program]:
                assert callable(function(runner))
        else:
            assert callable(function(name))


def function(name: str) -> object:
    module, _, test = name.partition(".")
    return getattr(importlib.import_module(f"tests.{module}"), test)
