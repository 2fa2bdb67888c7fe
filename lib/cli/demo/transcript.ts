/** What smtp-source -v says of its one session: commands as they are sent, and replies ("<<< ") as they come. */
export class Transcript {
  readonly #acknowledged: (number: number) => void;
  #rest = '';
  #number = 0;
  /** The mail has been sent, and its reply is what comes next. */
  #sent = false;
  /** What it said last: where it failed, why. */
  last = '';

  /** `acknowledged` hears the number (-N) of each mail to which the server said 250. */
  constructor(acknowledged: (number: number) => void) {
    this.#acknowledged = acknowledged;
  }

  take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() as string;
    for (const line of lines) this.#line(line.slice(line.indexOf(': ') + 2));
  }

  #line(said: string): void {
    this.last = said;
    const recipient = /^RCPT TO:<(\d+)/.exec(said);
    if (recipient) this.#number = Number(recipient[1]);
    else if (said === '.') this.#sent = true;
    else if (this.#sent && said.startsWith('<<< ')) {
      this.#sent = false;
      if (said.startsWith('<<< 250')) this.#acknowledged(this.#number);
    }
  }
}
