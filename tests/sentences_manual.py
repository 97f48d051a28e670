"""What chapters 4 to 13 of the MOSIX manual promise, and its pages of partners, mosctl, mossetpe and mos_in_job, in our own
words, and the tests of each. Its other pages are those of ours, whose sentences `t0_sentences` counts.

The manual itself is not in this project, so that nobody can count its sentences here; they stand in its order, a row for one or for
several that say the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.sentences import Row

ADVICE = "- advice, promises nothing"
TERMINAL = "t0_mosconf.test_a_terminal"
MENU = "t0_mosconf.test_a_menu_by_answers"
MAP = "t0_cluster_map.test_errors_name_file_line_and_value"
SHRINKS = "t5_reload.test_a_map_that_shrinks_brings_home_what_is_away"
AUTOCONF = "t6_autoconf.test_forty_nodes_among_strangers"
FREEZER, POLICY, FREEZING, FAULTS = "t1_freezer", "t0_freezing_policy", "t0_freezing", "t5_freezing_faults"
PRESET = "t5_mosrun_conf.test_defaults_and_what_is_forced"
RELATIONS, CLUSTERS, PARTNERS, SLURM = "t5_relations.test_what_goes_where", "t5_clusters", "t0_partners", "t5_slurm"
MAKES_WAY = f"{CLUSTERS}.test_a_guest_makes_way_for_the_owners_program"
RETAINED = f"{PARTNERS}.test_a_priority_is_retained {CLUSTERS}.test_a_priority_is_retained"
DOOR = f"{CLUSTERS}.test_guests_go_when_the_door_is_closed_and_come_when_it_is_opened"
OPENED = f"{PARTNERS}.test_how_many_guests_openmulti_lets_in"
ISOLATED = f"{CLUSTERS}.test_a_node_is_isolated_and_rejoins"
JOB = f"{CLUSTERS}.test_a_job_comes_and_goes"
BITS = f"{PARTNERS}.test_every_reason_for_bits_32_and_1024_of_rstatus"
INTEGER = "t0_node.test_every_integer_of_rstatus"
LIMITS, QUEUE = "t5_limits", "t5_queue"
OF_A_JOB = f"{SLURM}.test_a_job_has_its_cluster_and_guests_on_the_rest"
HOOKS = "t1_slurm.test_a_job_from_beginning_to_end"

MANUAL: dict[str, Sequence[Row]] = {
    "4.1": (
        ("mosconf leads through the configuration", TERMINAL),
        ("Enter at its first question: this node", "t0_mosconf.test_this_node_without_mosd"),
        ("the path of a root image instead", "t0_mosconf.test_the_first_question_takes_an_image"),
        ("changes hold soon, without stopping",
         "t0_mosconf.test_a_mosd_that_runs_reads_them t5_reload.test_a_new_secret_and_speed"),
        ("map and mosip of an image need mossetpe", "t0_mosconf.test_an_image_is_for_others_to_read "
         "t5_admin.test_a_map_that_shrinks_brings_everybody_home"),
        ("all is in etc/mosix", "t0_cluster_load.test_names_below_the_root"),
    ),
    "4.2.1": (
        ("the menu of the nodes of the cluster", f"{TERMINAL} {MENU}"),
        ("first address and number of nodes, several ranges, ranges of 1",
         f"{MAP} t0_cluster_map.test_membership_is_that_of_a_plain_set"),
        ("holes do no harm", "t4_gossip.test_death_and_return t5_admin.test_a_map_of_ten_thousand_nodes"),
        ("many nodes that do not exist make ARP broadcasts", ADVICE),
        ("nodes are added and deleted without stopping", f"{SHRINKS} t5_admin.test_a_map_that_shrinks_brings_everybody_home"),
    ),
    "4.2.2": (
        ("mos_autoconf, or a in mosconf", AUTOCONF),
        ("the same first two digits of the version", f"t0_autoconf.test_the_first_two_digits_of_versions {AUTOCONF}"),
        ("a subnet of class B at most, with all the nodes", "t0_autoconf.test_what_is_no_subnet"),
        ("all nodes are up", f"t0_autoconf.test_nobody_writes_unless_everybody_would {AUTOCONF}"),
        ("the same key on them, and on no others",
         f"t0_autoconf.test_strangers_other_keys_and_other_versions_are_left_out {AUTOCONF}"),
        ("not for 30,000 nodes, nor for advanced options", ADVICE),
        ("it asks, and can number the nodes", f"t0_autoconf.test_the_questions {AUTOCONF}"),
    ),
    "4.2.3": (
        ("+ has the advanced options", MENU),
        ("near or distant: whether images are compressed", f"{MENU} t0_cluster_map.test_round_trip"),
        ("aliases: other addresses of a node", f"{MAP} t0_cluster_map.test_an_alias_may_stand_for_a_node_of_a_partner"),
        ("mosip where the address is not clear",
         "t0_cluster_load.test_several_own_addresses_need_mosip t0_cluster_load.test_bad_mosip"),
    ),
    "4.3.1": (
        ("only those clusters that ours go to or whose come here", f"{PARTNERS}.test_the_map_with_partners"),
        ("a name of a word, ours alone", f"{PARTNERS}.test_names_of_partners {CLUSTERS}.test_what_nodes_know_of_each_other"),
        ("a longer description", f"{MENU} {PARTNERS}.test_round_trip"),
    ),
    "4.3.2": (
        ("ranges of addresses, with a few holes", f"{PARTNERS}.test_round_trip {PARTNERS}.test_what_is_wrong_between_files"),
        ("Are these nodes distant: yes by default", f"{MENU} t0_mosconf.test_a_partner_is_changed_and_deleted"),
    ),
    "4.3.3": (
        ("both directions by default", f"{MENU} {RELATIONS}"),
        ("one direction", RELATIONS),
        ("none: loads and status are seen", RELATIONS),
    ),
    "4.3.4": (
        ("0 to 65535, the lower the better", f"{PARTNERS}.test_what_is_wrong_in_a_file {PARTNERS}.test_worse_guests_make_way"),
        ("0 is not recommended", "t0_mosconf.test_priority_0_is_not_recommended"),
        ("our own cluster's wish moves worse guests out at once", f"{MAKES_WAY} {PARTNERS}.test_worse_guests_make_way"),
        ("so does a better partner's", f"{PARTNERS}.test_a_better_cluster_comes_though_worse_guests_are_as_many_as_may "
         f"{PARTNERS}.test_each_is_told_once_and_asked_until_it_has_left"),
        ("often but not always home", MAKES_WAY),
        ("50 by default", MENU),
    ),
    "4.3.5": (
        ("worse ones do not come in a gap of so many seconds", f"{RETAINED} {PARTNERS}.test_what_runs_for_a_moment_is_retained"),
        ("its length, by mosconf", MENU),
    ),
    "4.3.6": (
        ("guests of our own cluster are unlimited", f"{PARTNERS}.test_too_many_guests_leave_the_worst_and_latest_first"),
        ("those of others may be limited", f"{DOOR} {CLUSTERS}.test_a_flood_of_guests"),
    ),
    "4.4": (
        ("speeds are set by hand", f"{MENU} {TERMINAL}"),
        ("10,000 is typical, and the default", "t0_cluster_load.test_defaults t0_cluster_load.test_speed_round_trip"),
        ("nobody need adjust the others", ADVICE),
    ),
    "4.5": (
        ("programs are frozen by hand whatever the policy", "t5_freezing.test_another_package_freezes_it"),
        ("not those of mosrun -g, and no guests", f"{FREEZER}.test_who_may_not_be_frozen_and_who_does_not_compute_is_left_alone"),
        ("Red-Mark", f"{POLICY}.test_the_red_mark_freezes_until_the_load_is_not_above_it {POLICY}.test_the_red_mark_may_be_off"),
        ("Blue-Mark", f"{POLICY}.test_below_the_blue_mark_programs_go_on_but_not_above_the_red_one"),
        ("Home-Mark, Cluster-Mark",
         f"{POLICY}.test_home_and_cluster_marks {FREEZER}.test_tracers_hear_whether_evacuated_programs_are_frozen"),
        ("units: programs, or the standard load",
         f"{POLICY}.test_units {FREEZER}.test_the_standard_load_counts_processors_and_their_speed"),
        ("the least that run", f"{POLICY}.test_min_keep_go_on_whatever_the_load"),
        ("the most that run",
         f"{POLICY}.test_max_procs_holds_when_the_load_is_low {FAULTS}.test_max_procs_and_the_end_of_a_policy"),
        ("the time-slice", f"{POLICY}.test_after_a_slice_the_turn_is_anothers"),
        ("who is killed when there is no room", f"{FAULTS}.test_no_space_to_freeze"),
        ("the usual policy",
         f"t0_mosconf.test_the_manual_s_freezing_policy {FREEZING}.test_omitted_fields_have_the_manuals_values"),
        ("/freeze, or up to ten directories",
         f"{FREEZING}.test_ten_directories_are_allowed {FREEZING}.test_what_is_wrong_has_file_line_and_value"),
        ("the probability of each", f"{FREEZING}.test_directories_are_chosen_by_weight"),
        ("others when one is full, 0 last",
         f"{FAULTS}.test_a_full_directory_is_followed_by_the_next_one "
         f"{FREEZING}.test_all_others_are_tried_and_weight_0_is_the_last"),
        ("another owner of the files", f"{FAULTS}.test_files_are_made_as_the_user_of_the_configuration"),
    ),
    "4.6": (
        ("the best node: as the user likes, by default, or forced", f"{PRESET} t0_mosrun_conf.test_where_a_program_starts "
         "t0_mosrun_conf.test_where_a_program_may_not_start_when_the_best_node_is_forced"),
        ("unsupported calls: killed, -e or -w by default", f"{PRESET} t0_mosrun_conf.test_unsupported_calls"),
        ("-m is mandatory", f"{PRESET} t0_mosrun_conf.test_memory_that_must_be_told"),
        ("at first there are neither defaults nor rules", "t0_mosrun_conf.test_limits_of_a_user t0_cluster_load.test_defaults"),
    ),
    "5": (
        ("swap space for all programs of the home-node", ADVICE),
        ("small files, in a directory with multi", "t6_packages.test_programs_of_an_ordinary_user_spread"),
        ("frozen programs have their memory on disk", "t5_freezing.test_a_frozen_program_has_no_memory_and_goes_on_with_all_of_it"),
        ("who cannot be written is killed, or kept by the policy", f"{FAULTS}.test_no_space_to_freeze"),
        ("private files: memory, then disk", "t0_private.test_files_go_to_disk_together t0_private.test_room"),
        ("three directories, and a quota each",
         "t0_private.test_conf_round_trip t0_private.test_conf_errors_name_file_line_and_value"),
        ("a guest without room goes home", "t5_private.test_a_guest_beyond_its_limit_goes_home_and_goes_on"),
        ("a local program without room has its write fail", "t5_private.test_at_home_beyond_the_limit_write_fails"),
        ("/private, 5, 2 and 1 GB by default", "t0_private.test_conf_defaults_are_the_manual_s"),
    ),
    "6.1": (
        ("mosmon: load and memory of the cluster, or of all", "t5_admin.test_every_view_by_its_key "
         f"t5_admin.test_one_frame_for_scripts {RELATIONS}"),
    ),
    "6.2": (
        ("mosps: all users, guests", "t0_mosps.test_selection t0_mosps.test_guests_have_neither_where_nor_frz"),
    ),
    "6.3": (
        ("mosmigrate: processes of all users, whatever they and the system wish", "t5_admin.test_switches"),
        ("guests are sent away, not killed", "t5_commands.test_out_sends_a_guest_home"),
    ),
    "6.4": (
        ("stay, nostay", "t5_admin.test_switches"),
        ("lstay, nolstay", "t5_admin.test_switches t5_balance.test_lstay_keeps_the_programs_of_this_node"),
        ("block, noblock", "t5_admin.test_a_blocked_node_takes_nobody_and_says_so"),
        ("expel", "t5_admin.test_expel_returns_when_all_guests_are_gone"),
        ("bring", "t5_admin.test_bring_returns_when_all_programs_are_here"),
        ("isolate from the others, not from the own cluster; rejoin", ISOLATED),
        ("cngpri", f"{CLUSTERS}.test_priorities_are_changed {PARTNERS}.test_another_priority_changes_nothing_else"),
        ("shutdown", "t5_admin.test_shutdown_loses_nothing"),
        ("localstatus", "t5_admin.test_status_and_localstatus"),
    ),
    "6.5": (
        ("users must say how much memory", "t0_mosrun_conf.test_memory_that_must_be_told"),
        ("programs at once, and a day", "t5_mosrun_conf.test_a_limit_of_programs_holds_over_a_restart_of_mosd "
         "t0_mosrun_conf.test_a_start_counts_once_when_its_tracer_has_it"),
        ("calls of mosrun are logged", "t0_journal.test_who_called_mosrun"),
        ("users who stay in their cluster", "t5_mosrun_conf.test_programs_of_a_confined_user_stay_in_their_cluster"),
        ("the group, the modes and the wrapper with -p", "t5_mosrun_conf.test_the_wrapper_of_the_manual"),
    ),
    "7.1": (
        ("the owners trust each other, ordinary users need not", f"{CLUSTERS}.test_only_the_super_user_decides "
         f"{CLUSTERS}.test_a_guest_of_a_partners_controls_nothing t4_mosd.test_others_may_not_look"),
    ),
    "7.2": (
        ("a computer with another's address", "t0_wire_security.test_masquerading_is_a_violation "
         f"t5_doctor.test_two_machines_with_one_address {CLUSTERS}.test_a_partner_that_claims_our_node_gains_nothing"),
    ),
    "7.3": (
        ("one key for the whole multi-cluster, by Authentication of mosconf", f"{TERMINAL} t4_mosd.test_wrong_secret"),
        ("it is hard to guess", "t0_mosconf.test_a_key_is_strong_private_and_never_shown t0_cluster_load.test_bad_secret"),
    ),
    "7.4": (
        ("one organization, or such as trust each other", ADVICE),
    ),
    "8.1": (
        ("the three scripts in a directory of SlurmUser's", f"{OF_A_JOB} {HOOKS} t1_slurm.test_the_other_name_of_the_first_hook"),
        ("slurm_mosix.conf: COMMONDIR, SLURMBIN",
         "t1_slurm.test_a_bad_configuration_fails_the_job_with_a_line t1_slurm.test_no_configuration_at_all"),
        ("world.conf: hosts, and how many with the next addresses", "t0_job.test_a_bad_world_file_is_refused_with_its_line"),
        ("also nodes that Slurm does not have", JOB),
        ("PrologSlurmctld, Prolog, Epilog", OF_A_JOB),
        ("Feature=mosix", "t1_slurm.test_which_jobs_ask_for_mosix "
         "t1_slurm.test_a_node_on_which_mosix_does_not_run_fails_at_the_beginning_only"),
        ("-O -Cmosix*MHN", OF_A_JOB),
        ("mosrun -b -m before commands", OF_A_JOB),
        ("no memory for Slurm", ADVICE),
    ),
    "9": (
        ("processes move by themselves, or by request",
         "t5_balance.test_programs_spread_out_by_themselves t5_commands.test_a_process_is_moved_about"),
        ("they behave as if they ran where they were started", "t5_programs.test_away t5_programs.test_in_motion"),
        ("threads and shared memory: not all programs are suitable",
         f"{LIMITS}.test_a_program_that_meets_an_unsupported_feature_terminates"),
        ("LIMITATIONS can be cut out of the page", "t0_man.test_the_limitations_can_be_cut_out"),
        ("mosrun -w shows whether a program can run", f"{LIMITS}.test_w_prints_a_message_each_time"),
    ),
    "10": (
        ("-b", "t5_commands.test_best_node_is_one_of_them"),
        ("-m", "t5_commands.test_options_arrive t5_admin.test_a_program_with_b_and_m_begins_when_a_node_has_room"),
        ("-e is silent, -w tells", f"{LIMITS}.test_e_returns_enosys_silently {LIMITS}.test_w_prints_a_message_each_time"),
        ("-S: so many commands at a time until all have ended", f"{QUEUE}.test_never_more_than_maxjobs_and_the_next_when_one_ends"),
        ("-h, -r, -{number}", "t5_commands.test_where_a_program_starts"),
        ("a node that is down or refuses, and -F",
         "t5_commands.test_a_node_that_is_down t5_admin.test_a_blocked_node_takes_nobody_and_says_so"),
        ("-L, and -l within it", "t5_balance.test_a_locked_program_stays t5_commands.test_recursive_mosrun_inherits"),
        ("by default unsupported features end the program; -u", f"{LIMITS}.test_u_reverses"),
        ("-g, -G", f"t5_commands.test_options_arrive {FREEZER}.test_who_may_not_be_frozen_and_who_does_not_compute_is_left_alone"),
        ("the file of commands that failed", f"{QUEUE}.test_exit_status_is_the_number_of_failures"),
        ("-A, and ckpt.{process-ID}", "t1_checkpoints.test_every_so_many_minutes t5_checkpoints.test_stops_after_it"),
        ("numbers of checkpoints, and -N", "t5_checkpoints.test_versions_are_recycled"),
        ("-R, also with other files", "t5_checkpoints.test_goes_on_three_times t5_checkpoints.test_inspection_and_other_files"),
        ("-X", "t5_private.test_files_travel"),
        ("-c, -n, -d", "t5_commands.test_options_arrive t5_balance.test_clear_and_decay"),
        ("children are migratable too; mosnative", "t5_commands.test_native_programs_are_outside"),
        ("mospipe instead of pipes, and of mosrun mospipe", "t5_mailbox.test_the_manuals_pipelines"),
        ("its error messages", "t0_messages.test_every_message_is_accounted_for t0_messages.test_the_provoking_test_is_there"),
    ),
    "11": (
        ("mosps shows MOSIX processes, and where they are", "t0_mosps.test_selection t0_mosps.test_where_has_the_manuals_words"),
        ("-I, -h, -M", "t0_mosps.test_names_of_nodes"),
        ("FRZ: A, P, M", "t0_mosps.test_frz_has_the_manuals_letters t5_freezing.test_another_package_freezes_it"),
        ("-N", "t0_mosps.test_columns_of_the_manual"),
        ("-S", f"{QUEUE}.test_mosps_shows_how_far_it_is"),
        ("mostimeof, of several", "t5_admin.test_cpu_time_is_counted_wherever_it_is_used t5_admin.test_time_of_no_process"),
        ("mosmigrate to a node, and home", "t5_commands.test_a_process_is_moved_about"),
        ("freeze, continue", "t5_freezing.test_a_frozen_program_has_no_memory_and_goes_on_with_all_of_it"),
        ("checkpoint, chkstop, chkexit", "t5_checkpoints.test_goes_on_three_times t5_checkpoints.test_stops_after_it"),
        ("moskillall, with a signal", "t5_admin.test_all_are_signalled"),
    ),
    "12": (
        ("the same, told to users", f"{OF_A_JOB} {SLURM}.test_a_job_that_does_not_ask_for_it_changes_nothing"),
    ),
    "13": (
        ("vfork", "t5_vfork.test_a_vfork_child_comes_home_for_a_call"),
        ("system-calls are dear, at home as well", ADVICE),
        ("files below /proc/self that are none elsewhere", "t5_control.test_outside_mosrun t5_control.test_the_three_forms"),
        ("where it is, how often it has moved, whether in its cluster",
         "t5_control.test_migrate_whereami_nmigs t5_control.test_in_cluster"),
        ("a move, a checkpoint and their parameters, a signal after moves",
         "t5_control.test_migrate_whereami_nmigs t5_control.test_checkpoint_files t5_control.test_sigmig"),
        ("memory, load-balancing, migration, freezing, unsupported calls", "t5_control.test_the_three_forms"),
    ),
    "mosix(7), partners, retainpri, maxguests, aliases": (
        ("names of up to 128 characters", f"{PARTNERS}.test_names_of_partners {PARTNERS}.test_what_is_wrong_between_files"),
        ("a description, three integers, ranges of five fields", f"{PARTNERS}.test_what_is_wrong_in_a_file"),
        ("better ones that arrive expel worse", f"{MAKES_WAY} {PARTNERS}.test_worse_guests_make_way"),
        ("cango", f"{RELATIONS} {CLUSTERS}.test_what_either_side_forbids_does_not_happen"),
        ("cantake", f"{RELATIONS} {CLUSTERS}.test_what_either_side_forbids_does_not_happen"),
        ("two obsolete fields", f"{PARTNERS}.test_round_trip {PARTNERS}.test_a_fourth_integer_is_ignored"),
        ("proximate: compressed or not",
         "t0_image.test_far_memory_is_packed_as_its_receiver_takes_it t5_distance.test_bytes_of_a_move"),
        ("a host name is its first address", f"{PARTNERS}.test_what_is_wrong_between_files"),
        ("0.0.x.x and 255.255.255.x",
         f"{PARTNERS}.test_what_is_wrong_between_files t0_cluster_map.test_extremes_of_the_address_range"),
        ("retainpri: seconds until worse ones may start", f"{RETAINED} {PARTNERS}.test_retainpri"),
        ("the priority that is here, in /proc/mosix/priority", f"t0_procfs.test_priority_of_what_runs_here {MAKES_WAY}"),
        ("without retainpri at once", f"{PARTNERS}.test_a_priority_is_retained"),
        ("maxguests, unlimited without it",
         f"{PARTNERS}.test_max_guests {PARTNERS}.test_without_files_there_is_one_cluster_and_no_limit"),
        ("its second integer, by closemulti", DOOR),
        ("aliases", f"{MAP} t0_cluster_map.test_an_alias_may_stand_for_a_node_of_a_partner"),
    ),
    "mosctl(1)": (
        ("only for the Super-User, but for whois, status, rstatus",
         f"{CLUSTERS}.test_only_the_super_user_decides t5_admin.test_switches_are_the_super_users"),
        ("isolate brings ours home and sends others' away", ISOLATED),
        ("rejoin, with a number of guests, or 0", ISOLATED),
        ("maxguests prints and sets", DOOR),
        ("openmulti: the argument, what is defined, what was before, 8 for each processor", f"{OPENED} {DOOR}"),
        ("closemulti", DOOR),
        ("whois", "t5_admin.test_whois"),
        ("rstatus 1, 2, 512: of our configuration, known, fresh",
         "t0_node.test_status_bits_of_silent_unknown_and_strange_nodes"),
        ("rstatus 4, 8, 16: stay, lstay, block", "t0_node.test_status_bits"),
        ("rstatus 32: we are not in its map", "t5_relations.test_a_node_that_does_not_have_us_in_its_map_takes_nobody"),
        ("rstatus 32: it does not take ours, we do not let them go", f"{BITS} {RELATIONS}"),
        ("rstatus 32: better ones run there, it is full of equals, it is blocked", f"{BITS} {MAKES_WAY}"),
        ("rstatus 1024: it prefers ours", f"{BITS} {PARTNERS}.test_bits_32_and_1024_of_a_fellow {MAKES_WAY}"),
        ("load, speed, ncpus, frozen, memory, swap, processes", INTEGER),
        ("availability, privileged memory",
         f"{PARTNERS}.test_availability_and_privileged_memory_are_numbers_of_rstatus {PARTNERS}.test_a_priority_is_retained"),
    ),
    "mossetpe(1)": (
        ("-m, -p", "t5_admin.test_a_map_that_shrinks_brings_everybody_home t5_admin.test_a_wrong_map_changes_nothing"),
        ("it waits until all are where they may be", f"{RELATIONS} t5_admin.test_a_map_that_shrinks_brings_everybody_home"),
        ("-A does not", "t5_admin.test_a_map_that_shrinks_brings_everybody_home"),
        ("-r, -R", f"t5_admin.test_the_nodes_are_listed {CLUSTERS}.test_what_nodes_know_of_each_other"),
        ("-off", "t5_admin.test_shutdown_loses_nothing"),
    ),
    "mos_in_job(1)": (
        ("a temporary cluster, or alone at the service of others", JOB),
        ("the world-file", "t0_job.test_a_bad_world_file_is_refused_with_its_line t0_job.test_what_mos_in_job_refuses"),
        ("the local node is in it, and in own-cluster", "t0_job.test_what_mos_in_job_refuses"),
        ("ours may go to the others, theirs may not come",
         f"t0_job.test_in_a_job_ours_may_go_to_the_others_and_theirs_may_not_come {JOB}"),
        ("without own-cluster theirs may come, ours not go", f"t0_job.test_alone_theirs_may_come_and_ours_may_not_go {JOB}"),
        ("-A returns at once", f"{HOOKS} {OF_A_JOB}"),
        ("else it waits for all who must leave or move", JOB),
    ),
}
