export const unpackedRoot: string;
export function unpackDebian(name: string): string;
