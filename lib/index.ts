export { Arbiter } from './arbiter.js';
export type { EtcdOptions } from './arbiter-etcd.js';
export { Host, type HostEvents, type HostOptions } from './cluster/host.js';
export type { KeptMachine } from './cluster/keeper.js';
export {
  cluster,
  ProtectedMachine,
  type ProtectedMachineEvents,
  type ProtectOptions,
  protect,
  unprotect,
} from './cluster/protect.js';
export type {
  ClusterView,
  HostRecord,
  MachineEnd,
  MachineSpec,
  MachineView,
  SideStatus,
  WantedSide,
} from './cluster/records.js';
export {
  ConsoleClient,
  type ConsoleClientEvents,
  type ConsoleClientOptions,
  type ConsolePause,
} from './console-client.js';
export {
  type Divergence,
  DivergenceError,
  type ErrorCode,
  LockstepError,
  type LockstepErrorOptions,
} from './errors.js';
export type {
  Ended,
  EndReason,
  MachineEvents,
  MachineState,
  PairEvents,
  PairNotice,
  PairNoticeName,
  Warning,
} from './events.js';
export type { GuestFile } from './guest-files.js';
export type { GuestTreeEntry } from './guest-tree-answer.js';
export type { ElfImageOptions, FlatOptions } from './image/bare-image.js';
export type { ImageInfo, StartMode } from './image/image-file.js';
export type {
  BareManifest,
  Manifest,
  ManifestFile,
  ManifestLeftSite,
  ManifestSite,
  ManifestSites,
  ProgramManifest,
  SnapshotManifest,
} from './image/manifest.js';
export { Image, type ImageProgramOptions } from './image.js';
export type { GroupOptions } from './learn/groups.js';
export { type LearnOptions, learn, type Marker } from './learn/learn.js';
export { mergeProfiles, type Profile, readProfile, type TouchedRange } from './learn/profile.js';
export { type ForkOptions, Machine, type RestoreOptions, type SnapshotInfo } from './machine.js';
export type { Digest, MachineStats, Registers } from './machine-state.js';
export type { CableOptions, NetOptions } from './net-options.js';
export type {
  ChannelTarget,
  ConsoleOptions,
  ContinueOptions,
  LogOptions,
  MachineOptions,
  OptionalLogOptions,
  SandboxOptions,
} from './options.js';
export type { PairOptions, PairStatus } from './pair-side.js';
export { Primary, type PrimaryOptions } from './primary.js';
export { type HostProbe, probe } from './probe.js';
export {
  Recording,
  type RecordingEvent,
  type RecordingInfo,
  type RecordOptions,
  record,
} from './recording.js';
export { Replay, type ReplayEvents, type ReplayOptions, type ReplayResult, replay } from './replay.js';
export { Shadow, type ShadowOptions } from './shadow.js';
export { type PruneOptions, type PruneResult, prune } from './stream/prune.js';
export { type PublishOptions, type PublishResult, publish } from './stream/publish.js';
export { type FileServer, type ServeOptions, serve } from './stream/serve.js';
export { Stream, type StreamOptions, type StreamProgress } from './stream/stream.js';
export { type KeyHolder, makeKeys, readKeys, type SecurityOptions, type TlsOptions } from './tls.js';
export type { TraceBatch, TraceDirtyPage, TraceExit, TraceOptions } from './trace.js';
