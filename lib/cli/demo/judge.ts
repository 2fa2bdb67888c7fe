/** What is wrong with the answers, in one sentence each; empty: they are exactly the host's. */
export function compareAnswers(expected: string[], actual: string[]): string[] {
  const wrong: string[] = [];
  const missing = expected.length - actual.length;
  if (missing > 0) wrong.push(`${missing} of ${expected.length} answers are missing`);
  if (missing < 0) wrong.push(`${-missing} answers too many`);
  const at = expected.findIndex((line, index) => actual[index] !== line);
  if (at >= 0 && at < actual.length) {
    wrong.push(
      `answer ${at + 1} is ${JSON.stringify(actual[at])}, and on the host ${JSON.stringify(expected[at])}`,
    );
  }
  return wrong;
}
