/** The table, for a terminal and for RESULTS.md. */
import { type Outcome, type Quantity, type Row, verdict } from './case.js';
import type { Summary } from './measure.js';

const HEAD = ['budget', 'what was run', 'ours', 'peer', 'ratio', 'budget', 'verdict'];

function digits(value: number): string {
  if (!Number.isFinite(value)) return '?';
  const size = Math.abs(value);
  if (size === 0) return '0';
  return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : size >= 0.01 ? 4 : 6);
}

function spread(value: Summary | number, show = digits): string {
  if (typeof value === 'number') return show(value);
  const { median, min, max, count } = value;
  return count > 1 ? `${show(median)} [${show(min)}-${show(max)}]` : show(median);
}

function quantity({ unit, value }: Quantity): string {
  return `${spread(value)}${unit ? ` ${unit}` : ''}`;
}

function cells(row: Row): string[] {
  const { budget, what, ours, peer, ratio, limit, skipped } = row;
  const unit = ratio === undefined && ours?.unit ? ` ${ours.unit}` : '';
  return [
    budget,
    what,
    skipped ?? (ours ? quantity(ours) : ''),
    peer ? quantity(peer) : '',
    ratio === undefined ? '' : spread(ratio, (value) => value.toFixed(3)),
    limit === undefined ? '' : `<= ${Number(limit.toPrecision(4))}${unit}`,
    verdict(row),
  ];
}

/** Plain text, columns aligned. */
export function textTable(rows: Row[]): string {
  const lines = [HEAD, ...rows.map(cells)];
  const widths = HEAD.map((_, column) => Math.max(...lines.map((line) => (line[column] as string).length)));
  const text = lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column] as number))
      .join(' | ')
      .trimEnd(),
  );
  text.splice(1, 0, widths.map((width) => '-'.repeat(width)).join('-+-'));
  return text.join('\n');
}

export function markdownTable(rows: Row[]): string {
  const line = (list: string[]) => `| ${list.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(HEAD), line(HEAD.map(() => '---')), ...rows.map((row) => line(cells(row)))].join('\n');
}

export function summaryLine(rows: Row[]): string {
  const of = (wanted: string) => rows.filter((row) => verdict(row) === wanted).length;
  return `${of('ok')} budgets held, ${of('MISSED')} missed, ${of('skipped')} skipped`;
}

export function allNotes(outcomes: Outcome[]): string[] {
  return outcomes.flatMap(({ notes = [] }) => notes);
}
