/**
 * What of Python's own tests is left out, and why: everything else that passes on the host passes in a machine
 * (test/python-suite.test.ts). The patterns are those of `python3 -m test --ignore`.
 */
interface Exclusion {
  why: string;
  /** By module. */
  tests: Readonly<Record<string, readonly string[]>>;
}

export const EXCLUDED: readonly Exclusion[] = [
  {
    why: 'A second process, by fork or to run a script of its own: a machine has one.',
    tests: {
      test_json: ['*.TestTool.*'],
      test_re: ['*.test_regression_gh94675'],
      test_bytes: ['*.test_check_encoding_errors'],
      test_struct: ['*.test_struct_cleans_up_at_runtime_shutdown'],
      test_io: [
        '*MiscIOTest.test_check_encoding_*',
        '*MiscIOTest.test_daemon_threads_shutdown_*',
        '*MiscIOTest.test_text_encoding',
        '*TextIOWrapperTest.test_create_at_shutdown_*',
      ],
      test_signal: [
        '*.PendingSignalsTests.test_pthread_*',
        '*.PendingSignalsTests.test_sigpending',
        '*.PendingSignalsTests.test_sigtimedwait*',
        '*.PendingSignalsTests.test_sigwait*',
        '*.PosixTests.test_interprocess_signal',
        '*.PosixTests.test_keyboard_interrupt_exit_code',
        '*.SiginterruptTest.*',
        '*.WakeupSignalTests.*',
        '*.WakeupSocketSignalTests.*',
      ],
      test_threading: [
        '*.AtexitTests.*',
        '*.SubinterpThreadingTests.test_daemon_threads_fatal_error',
        '*.ThreadJoinOnShutdown.test_[1234]_*',
        '*.ThreadJoinOnShutdown.test_clear_threads_states_after_fork',
        '*.ThreadTests.test_*_after_fork*',
        '*.ThreadTests.test_final*',
        '*.ThreadTests.test_fork_at_exit',
        '*.ThreadTests.test_import_from_another_thread',
        '*.ThreadTests.test_join_nondaemon_on_shutdown',
        '*.ThreadTests.test_locals_at_exit',
        '*.ThreadTests.test_main_thread_during_shutdown',
        '*.ThreadingExceptionTests.test_print_exception*',
        '*.ThreadingExceptionTests.test_recursion_limit',
      ],
      test_asyncio: [
        '*.test_env_var_debug',
        '*.test_get_event_loop_new_process',
        '*.test_read_all_from_pipe_reader',
        '*.test_subprocess_*',
        '*.test_subprocess.*',
      ],
    },
  },
  {
    why: 'IPv6: the guest kernel speaks IPv4.',
    tests: {
      test_socket: ['*6Test.*', '*.test_dual*stack_*', '*.test_flowinfo', '*.test_*ipv6_*', '*.test_tcp6'],
      test_asyncio: [
        '*.test_*ipv6*',
        '*.test_create_datagram_endpoint_no_matching_family',
        '*.test_create_server_dual_stack',
      ],
    },
  },
  {
    why: 'UDP-Lite, VM sockets and netlink (which lists network interfaces): other protocols than TCP and UDP.',
    tests: {
      test_socket: ['*UDPLITE*', '*VSOCK*', '*.testInterfaceNameIndex'],
    },
  },
  {
    why: "Setting the clock: it is the recorder's, so the guest answers EPERM and Python skips the test.",
    tests: { test_time: ['*.test_monotonic_settime'] },
  },
  {
    why: 'File descriptors and datagrams over Unix sockets: not in the guest kernel yet.',
    tests: {
      test_socket: ['*SCMRights*', '*.SendRecvFdsTests.*'],
      test_asyncio: ['*_sock_unix', '*_server_path_dgram'],
    },
  },
  {
    why: 'Pseudo-terminals: not in the guest kernel yet.',
    tests: { test_asyncio: ['*_pty', '*_pty_output'] },
  },
];

export function excluded(module: string): string[] {
  return EXCLUDED.flatMap(({ tests }) => tests[module] ?? []);
}
