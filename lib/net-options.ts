/** The network card's options: checked here, and turned into what the addon takes. */
import { createHash } from 'node:crypto';
import { isIPv4 } from 'node:net';
import type { NativeConfig } from './native.js';

/** What a network card is joined to. */
export interface CableOptions {
  /**
   * Join the card to a TAP interface: one that exists, by its name, or a new one (true, or a name that is free),
   * which takes root and lasts as long as the machine. Neither this nor `unix`: the card's cable is not plugged in.
   */
  tap?: string | true;
  /** Join it to a Unix datagram socket instead: 'PATH', or 'PATH,PEER'. One frame a datagram. */
  unix?: string;
  /**
   * Make the TAP interface a port of this bridge of the host's, without an address of its own. Both sides of a pair
   * whose machine is to be reached after a takeover have one in the same network.
   */
  bridge?: string;
  /** The bridge learns the machine behind this port by itself: for a shadow that gives up its rights. */
  learned?: boolean;
  /** @internal This process will want the TAP interface again for another machine, when it has given up its rights. */
  kept?: boolean;
}

export interface NetOptions extends CableOptions {
  /** The card's address, such as '02:00:00:00:00:01'. Default: made from the seed. */
  mac?: string;
  /**
   * The machine's IPv4 address and prefix, or 'dhcp': then it asks for one when it boots, and the program starts when
   * it is there. Without an answer the machine fails after 30 s. Default '10.0.2.15/24'.
   */
  ip?: string;
  /**
   * What it sends to the rest of the world through; also the host's address on a new TAP. Default '10.0.2.2'. Not with
   * 'dhcp': a new TAP then has no address yet.
   */
  gateway?: string;
  /** Default 1500. */
  mtu?: number;
}

type Invalid = (message: string, hint?: string) => Error;

const MTU_MIN = 576;
const MTU_MAX = 9000;
/** IFNAMSIZ less its end. */
const INTERFACE_NAME_MAX = 15;
const SOCKET_PATH_MAX = 107;

function addressNumber(text: string): number {
  return text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

function parseIp(text: string, invalid: Invalid): { ip: number; netmask: number } {
  const [address = '', prefix = '24', ...rest] = text.split('/');
  const bits = Number(prefix);
  if (!isIPv4(address) || !/^\d{1,2}$/.test(prefix) || bits < 1 || bits > 30 || rest.length > 0)
    throw invalid(`'${text}' is no IPv4 address with a prefix`, 'Write it like 10.0.2.15/24.');
  return { ip: addressNumber(address), netmask: (0xffffffff << (32 - bits)) >>> 0 };
}

function parseMac(text: string, invalid: Invalid): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text))
    throw invalid(`'${text}' is no hardware address`, 'Write it like 02:00:00:00:00:01.');
  const mac = Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
  if ((mac[0] ?? 1) & 1) throw invalid(`${text} is a group's address`, 'Its first byte must be even.');
  return mac;
}

/** Locally administered, and the same for the same seed. */
function macFromSeed(seed: Uint8Array): Uint8Array {
  const mac = Uint8Array.from(createHash('sha256').update('mac').update(seed).digest().subarray(0, 6));
  mac[0] = 2;
  return mac;
}

function interfaceName(name: string, invalid: Invalid): string {
  if (name === '' || name.length > INTERFACE_NAME_MAX || /[/\s:%]/.test(name))
    throw invalid(`'${name}' cannot be an interface's name`, 'It has 1 to 15 characters, such as tap0.');
  return name;
}

/** The addon's part of it; nothing for a card that is joined to nothing. */
export function cableConfig(
  { tap, unix, bridge, learned, kept }: CableOptions,
  invalid: Invalid,
): NativeConfig['nic'] {
  if ((tap ?? bridge) !== undefined && unix !== undefined)
    throw invalid(`net has both ${tap === undefined ? 'bridge' : 'tap'} and unix`, 'Choose one.');
  if ((tap ?? bridge) !== undefined) {
    const name = tap === undefined || tap === true ? '' : interfaceName(tap, invalid);
    const port = bridge === undefined ? undefined : interfaceName(bridge, invalid);
    return { tap: name, bridge: port, learned, kept };
  }
  if (unix === undefined) return undefined;
  const [path = '', peer = '', ...rest] = unix.split(',');
  for (const one of peer ? [path, peer] : [path]) {
    if (!one || Buffer.byteLength(one) > SOCKET_PATH_MAX || rest.length > 0)
      throw invalid(`'${unix}' is not PATH or PATH,PEER`, 'A path has 1 to 107 bytes.');
  }
  return { path, peer };
}

/** The network's share of the addon's configuration. */
export function netConfig(
  net: NetOptions,
  seed: Uint8Array,
  invalid: Invalid,
): NonNullable<NativeConfig['net']> {
  const { mac, ip: address = '10.0.2.15/24', mtu = 1500 } = net;
  if (!Number.isSafeInteger(mtu) || mtu < MTU_MIN || mtu > MTU_MAX)
    throw invalid(`mtu must be a whole number from ${MTU_MIN} to ${MTU_MAX}, and is ${mtu}`);
  const card = {
    mac: mac === undefined ? macFromSeed(seed) : parseMac(mac, invalid),
    mtu,
  };
  if (address === 'dhcp') {
    if (net.gateway !== undefined)
      throw invalid('a gateway was given, and ip is dhcp', 'The DHCP server names the gateway.');
    return { ...card, ip: 0, netmask: 0, gateway: 0, dhcp: true };
  }
  const { ip, netmask } = parseIp(address, invalid);
  // Where only the address was chosen, the gateway is the second of its network, or the first.
  const network = (ip & netmask) >>> 0;
  const usual = network + (ip === network + 2 ? 1 : 2);
  const gateway = net.gateway ?? [24, 16, 8, 0].map((shift) => (usual >>> shift) & 255).join('.');
  if (!isIPv4(gateway)) throw invalid(`'${gateway}' is no IPv4 address`, 'Write it like 10.0.2.2.');
  if (((addressNumber(gateway) ^ ip) & netmask) !== 0)
    throw invalid(`the gateway ${gateway} is not in the machine's network ${address}`);
  if (addressNumber(gateway) === ip) throw invalid(`gateway and machine have both the address ${gateway}`);
  return { ...card, ip, netmask, gateway: addressNumber(gateway) };
}
