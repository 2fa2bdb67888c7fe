/** What an image says about itself, for people and for divergence reports. Stands in the image as JSON. */

/** Changes when the packer would make other bytes of the same input. */
export const PACKER_VERSION = 4;

/** Addresses are the file's own virtual addresses, as `0x...`. */
export interface ManifestSite {
  /** The file's path in the guest. */
  file: string;
  address: string;
  /** As a disassembler would show it: `cpuid`, `rdrand eax`. */
  instruction: string;
}

export interface ManifestLeftSite extends ManifestSite {
  reason: string;
}

export interface ManifestFile {
  /** In the guest. */
  path: string;
  bytes: number;
  /** Type and permission bits as in stat(2), octal: `100755`. */
  mode: string;
  /** Of the contents as they are in the guest; of a link's target. */
  sha256: string;
  /** Why it is there: `program`, `needed by /usr/bin/redis-server`, `--file` ... */
  why: string;
  /** Of a symbolic link. */
  target?: string;
}

/** A library that a packed file beside the program asks for, and that was not found. */
export interface ManifestMissing {
  library: string;
  neededBy: string;
}

export interface ManifestSites {
  /** Instructions replaced by an OUT to the monitor. */
  replaced: ManifestSite[];
  /** Bytes that look like one and were left. */
  left: ManifestLeftSite[];
  /** Instructions that can differ between hosts and are never replaced. */
  watch: ManifestSite[];
  /** How many system calls of a file go through the vDSO, without leaving the guest. */
  calls: { file: string; count: number }[];
}

/** A Linux program with its files and the guest kernel. */
export interface ProgramManifest {
  version: 1;
  kind: 'program';
  packer: number;
  /** The executable's path in the guest. */
  program: string;
  argv: string[];
  env: Record<string, string>;
  cwd: string;
  memoryMiB: number;
  kernelSha256: string;
  files: ManifestFile[];
  missing: ManifestMissing[];
  sites: ManifestSites;
}

/** A bare guest, started in real or long mode. */
export interface BareManifest {
  version: 1;
  kind: 'bare';
  packer: number;
  mode: 'real' | 'long';
  /** Guest physical address of the first instruction. */
  entry: string;
  memoryMiB: number;
}

/** A machine in the midst of its life. */
export interface SnapshotManifest {
  version: 1;
  kind: 'snapshot';
  /** The event that it was taken after. */
  event: number;
  /** Virtual time then, microseconds since 1970. */
  timeUs: number;
  /** Of the machine's processor: only hosts of this vendor go on with it. Not in snapshots of before 2026-11-27. */
  vendor?: string;
  /** The level of its processor: `x86-64-v3`. Hosts have it, or a higher one. */
  cpuModel?: string;
  /** It has a network card. */
  net?: boolean;
  /** Identity of the image that the machine started from, which may be a snapshot, too. */
  from: string;
  /** Of the image that was booted. */
  of: ProgramManifest | BareManifest;
}

export type Manifest = ProgramManifest | BareManifest | SnapshotManifest;
