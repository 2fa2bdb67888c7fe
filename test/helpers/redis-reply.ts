/** What redis answers (RESP 2). */
export type Reply = string | null | Reply[];

/** The reply that begins at `at`, and where the next one does; undefined while some of it is missing. */
export function parseReply(text: string, at = 0): { reply: Reply; end: number } | undefined {
  const lineEnd = text.indexOf('\r\n', at);
  if (lineEnd < 0) return undefined;
  const line = text.slice(at, lineEnd);
  const start = lineEnd + 2;
  const count = Number(line.slice(1));
  if (line.startsWith('$')) {
    if (count < 0) return { reply: null, end: start };
    const end = start + count + 2;
    return text.length < end ? undefined : { reply: text.slice(start, end - 2), end };
  }
  if (!line.startsWith('*')) return { reply: line, end: start };
  const replies: Reply[] = [];
  let end = start;
  while (replies.length < count) {
    const next = parseReply(text, end);
    if (!next) return undefined;
    replies.push(next.reply);
    end = next.end;
  }
  return { reply: replies, end };
}
