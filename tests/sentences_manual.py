"""What chapters 4, 5, 6.5 and 7.3 of the MOSIX manual promise an administrator, in our own words, and the tests of each.

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
    "6.5": (
        ("users must say how much memory", "t0_mosrun_conf.test_memory_that_must_be_told"),
        ("programs at once, and a day", "t5_mosrun_conf.test_a_limit_of_programs_holds_over_a_restart_of_mosd "
         "t0_mosrun_conf.test_a_start_counts_once_when_its_tracer_has_it"),
        ("calls of mosrun are logged", "t0_journal.test_who_called_mosrun"),
        ("users who stay in their cluster", "t5_mosrun_conf.test_programs_of_a_confined_user_stay_in_their_cluster"),
        ("the group, the modes and the wrapper with -p", "t5_mosrun_conf.test_the_wrapper_of_the_manual"),
    ),
    "7.3": (
        ("one key for the whole multi-cluster, by Authentication of mosconf", f"{TERMINAL} t4_mosd.test_wrong_secret"),
        ("it is hard to guess", "t0_mosconf.test_a_key_is_strong_private_and_never_shown t0_cluster_load.test_bad_secret"),
    ),
}
