// Every fault by name, with how often the soak does it.
import {
  blockEventLoop,
  CLAIM_PLACES,
  corruptShadow,
  cutLink,
  dieAtWork,
  failAtClaimWithBothAlive,
  failAtTakeover,
  killAtAnyEvent,
  loseArbiter,
  loseArbiterThen,
  nap,
  PRIMARY_PLACES,
  type Scenario,
  SHADOW_PLACES,
  stopAtWork,
  stopSide,
} from './pair-faults.js';

export interface Fault {
  name: string;
  /** How often the soak does it. */
  times: number;
  scenario: Scenario;
}

const SIDES = ['primary', 'shadow'] as const;
const both = (fault: (side: 'primary' | 'shadow') => Fault[]) => SIDES.flatMap(fault);

export const KILLS: readonly Fault[] = [
  {
    name: 'kill -9 of the primary, uniform over event numbers',
    times: 200,
    scenario: killAtAnyEvent('primary'),
  },
  {
    name: 'kill -9 of the shadow, uniform over event numbers',
    times: 50,
    scenario: killAtAnyEvent('shadow'),
  },
];

/** Inside a log write and an acknowledgement, of either side. */
export const WORK_FAULTS: readonly Fault[] = both((side) =>
  (side === 'primary' ? PRIMARY_PLACES : SHADOW_PLACES).flatMap((place) => [
    { name: `${side} dies at ${place}`, times: 20, scenario: dieAtWork(side, place) },
    { name: `${side} stops at ${place} and wakes`, times: 5, scenario: stopAtWork(side, place) },
  ]),
);

/** Inside an arbiter claim and going live, of either side. */
export const TAKEOVER_FAULTS: readonly Fault[] = both((side) =>
  CLAIM_PLACES.flatMap((place) => [
    {
      name: `${side} dies at ${place}, nobody is left`,
      times: 20,
      scenario: failAtTakeover(side, place, false),
    },
    { name: `${side} stops at ${place} and wakes`, times: 20, scenario: failAtTakeover(side, place, true) },
  ]),
);

/** Inside an arbiter claim while the other side claims as well. */
export const RACE_FAULTS: readonly Fault[] = both((side) =>
  (['claim-before-link', 'claim-after-link'] as const).flatMap((place) => [
    {
      name: `link cut, ${side} dies at ${place}`,
      times: 20,
      scenario: failAtClaimWithBothAlive(side, place, false),
    },
    {
      name: `link cut, ${side} stops at ${place} and wakes`,
      times: 20,
      scenario: failAtClaimWithBothAlive(side, place, true),
    },
  ]),
);

export const BOTH_ALIVE: readonly Fault[] = [
  { name: 'link cut, both alive', times: 20, scenario: cutLink('cut') },
  { name: 'link silent, both alive', times: 20, scenario: cutLink('swallow') },
  { name: 'primary stopped past the silence limit', times: 20, scenario: stopSide('primary') },
  { name: 'shadow stopped past the silence limit', times: 20, scenario: stopSide('shadow') },
  { name: 'primary stopped within the silence limit', times: 10, scenario: nap('primary') },
  { name: 'shadow stopped within the silence limit', times: 10, scenario: nap('shadow') },
];

export const ARBITER: readonly Fault[] = [
  { name: 'arbiter gone while the link is up', times: 10, scenario: loseArbiter },
  { name: 'arbiter gone, primary killed, arbiter back', times: 10, scenario: loseArbiterThen('primary') },
  { name: 'arbiter gone, shadow killed, arbiter back', times: 10, scenario: loseArbiterThen('shadow') },
];

export function blocks(ms: number): Fault[] {
  const of = (name: string, sides: readonly ('primary' | 'shadow')[]) => ({
    name: `event loop of ${name} blocked for ${ms} ms`,
    times: 5,
    scenario: blockEventLoop(sides, ms),
  });
  return [of('the primary', ['primary']), of('the shadow', ['shadow']), of('both', SIDES)];
}

export const CORRUPTIONS: readonly Fault[] = [
  { name: 'shadow memory corrupted where the program works', times: 10, scenario: corruptShadow('text') },
  { name: 'shadow memory corrupted where nothing runs', times: 10, scenario: corruptShadow('unused page') },
];
