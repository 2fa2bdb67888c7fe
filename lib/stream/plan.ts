/**
 * What is fetched next: whom somebody waits for, then the rest in the published order, and of that nothing before all
 * of the first group is here. Neighbours in a pack come with it in one request. Blocks of one frame, and equal ones,
 * are one here, their *place*.
 */
import type { Published } from './published.js';
import type { ByteRange } from './source.js';

/** Neighbours in one pack, in their order there. */
export interface Job {
  pack: number;
  places: Place[];
  range: ByteRange;
  /** Somebody stands still for the first of them. */
  wanted: boolean;
}

export interface Place extends ByteRange {
  pack: number;
  /** The blocks of the image that lie here. */
  blocks: number[];
  /** Where in the frame each of them begins. */
  within: number[];
  state: 'missing' | 'coming' | 'here';
  /** Somebody stands still for it. */
  wanted: boolean;
  /** It has a block of the first group. */
  isFirst: boolean;
  /** How often it came damaged. */
  damaged: number;
  /** Its number among the places of its pack. */
  index: number;
}

/** What comes along with a block that somebody waits for: some of what it will want next. */
const WANTED_BYTES = 48 * 1024;

export class Plan {
  /** How many places are not here yet. */
  missing = 0;
  /** How many blocks of the image are. */
  blocksHere = 0;
  /** What the missing places take, compressed. */
  bytesMissing = 0;
  readonly #sequence: Uint32Array;
  readonly #placeOf: Place[] = [];
  /** Of each pack, in their order there. */
  readonly #packs: Place[][];
  /** How many of them somebody stands still for. */
  wantedMissing = 0;
  readonly #wanted: Place[] = [];
  #next = 0;
  readonly #firstCount: number;
  /** How many places with blocks of the first group are not here yet. */
  #firstMissing = 0;

  constructor({ packs, pack, offset, length, within, sequence, groups }: Published, have: Uint8Array) {
    this.#sequence = sequence;
    this.#packs = packs.map(() => []);
    this.#firstCount = groups[0] ?? 0;
    const known = new Map<string, Place>();
    for (let block = 0; block < sequence.length; block++) {
      const [number, start] = [pack[block] as number, offset[block] as number];
      const key = `${number}:${start}`;
      const place = known.get(key) ?? {
        pack: number,
        start,
        end: start + (length[block] as number),
        blocks: [],
        within: [],
        state: 'here' as const,
        wanted: false,
        isFirst: false,
        damaged: 0,
        index: 0,
      };
      if (!known.has(key)) this.#packs[number]?.push(place);
      known.set(key, place);
      place.blocks.push(block);
      place.within.push(within[block] as number);
      this.#placeOf[block] = place;
    }
    for (const block of sequence.subarray(0, this.#firstCount))
      (this.#placeOf[block] as Place).isFirst = true;
    for (const places of this.#packs) {
      places.sort((a, b) => a.start - b.start);
      places.forEach((place, index) => {
        place.index = index;
        if (place.blocks.some((block) => !have[block])) this.#isMissing(place);
        else this.blocksHere += place.blocks.length;
      });
    }
  }

  isHere(blocks: readonly number[]): boolean {
    return blocks.every((block) => this.#placeOf[block]?.state === 'here');
  }

  want(block: number): void {
    const place = this.#placeOf[block];
    if (!place || place.state === 'here') return;
    if (!place.wanted) this.wantedMissing++;
    place.wanted = true;
    this.#wanted.push(place);
  }

  /** Somebody waits for something that nobody fetches yet. */
  get isWanted(): boolean {
    while (this.#wanted[0] && this.#wanted[0].state !== 'missing') this.#wanted.shift();
    return this.#wanted.length > 0;
  }

  /** Undefined when there is nothing left that is not under way. What is taken is given back or put. */
  nextWanted(): Job | undefined {
    if (!this.isWanted) return undefined;
    return this.#jobFrom(this.#wanted.shift() as Place, WANTED_BYTES, true);
  }

  nextInOrder(bytesMax: number): Job | undefined {
    // What else came meanwhile would take its share of the line from what the machine cannot start without.
    const end = this.#firstMissing > 0 ? this.#firstCount : this.#sequence.length;
    for (; this.#next < end; this.#next++) {
      const place = this.#placeOf[this.#sequence[this.#next] as number] as Place;
      if (place.state === 'missing') return this.#jobFrom(place, bytesMax, false);
    }
    return undefined;
  }

  /** Everything in this pack that is not here: of servers that send files whole. */
  restOf(pack: number): Place[] {
    return (this.#packs[pack] ?? []).filter((place) => place.state !== 'here');
  }

  put(place: Place): void {
    if (place.state === 'here') return;
    if (place.wanted) this.wantedMissing--;
    if (place.isFirst) this.#firstMissing--;
    this.blocksHere += place.blocks.length;
    place.state = 'here';
    this.missing--;
    this.bytesMissing -= place.end - place.start;
  }

  /** What did not come is fetched again. */
  giveBack(job: Job): void {
    for (const place of job.places) {
      if (place.state !== 'coming') continue;
      place.state = 'missing';
      // The order starts anew: what was passed over is few.
      this.#next = 0;
      if (place.wanted) this.#wanted.unshift(place);
    }
  }

  #isMissing(place: Place): void {
    place.state = 'missing';
    this.missing++;
    if (place.isFirst) this.#firstMissing++;
    this.bytesMissing += place.end - place.start;
  }

  #jobFrom(first: Place, bytesMax: number, wanted: boolean): Job {
    const neighbours = this.#packs[first.pack] as Place[];
    const places: Place[] = [];
    let { end } = first;
    for (let at = first.index; at < neighbours.length; at++) {
      const place = neighbours[at] as Place;
      const apart = places.length > 0 && (place.start !== end || place.end - first.start > bytesMax);
      if (apart || place.state !== 'missing') break;
      place.state = 'coming';
      places.push(place);
      end = place.end;
    }
    return { pack: first.pack, places, range: { start: first.start, end }, wanted };
  }
}
