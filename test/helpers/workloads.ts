/** Unmodified static programs of Debian with work to do, for whoever needs something real to run. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PackedFile } from '../../lib/image/host-files.js';
import { root } from './command.js';
import { Random } from './random.js';

export interface Workload {
  name: string;
  argv: string[];
  /** Host paths; the guest sees them under the same names, unless it says otherwise. */
  files?: (string | PackedFile)[];
  memoryMiB?: number;
  /** Fed piece by piece, with pauses; whole by a pipe on the host. */
  input?: string[];
}

const WORDS = 'the quick brown fox jumps over a lazy dog while nine wizards box grim jesters'.split(' ');

function prose(lines: number, seed: number): string {
  const random = new Random(seed);
  const word = () => random.pick(WORDS);
  return Array.from(
    { length: lines },
    (_, index) => `${index} ${word()} ${word()} ${random.between(0, 999)}\n`,
  ).join('');
}

function noise(bytes: number, seed: number): Buffer {
  const random = new Random(seed);
  return Buffer.from(Uint8Array.from({ length: bytes }, () => random.between(0, 255)));
}

const SHELL = `
total=0 lines=0; : > "$0"
while read -r name value rest; do
  lines=$((lines + 1))
  case $value in *[!0-9]*|'') echo "line $lines: no number: $name"; continue;; esac
  total=$((total + value))
  echo "$name $value" >> "$0"
  printf '%-12s %6d %08x\\n' "$name" "$total" "$((total * 2654435761 % 4294967296))"
done
while read -r line; do set -- $line; echo "again: $2 $1"; done < "$0"
for i in 1 2 3 4 5 6 7 8 9; do f=1; j=1; while [ $j -le $i ]; do f=$((f * j)); j=$((j + 1)); done; echo "$i! = $f"; done
exit 3
`;

const BASH = `
declare -A count; RANDOM=42
while IFS= read -r line; do
  for word in $line; do ((count[$word]++)); done
  printf '%s has %d characters, %s\\n' "\${line^^}" "\${#line}" "\${line//o/0}"
done
for key in "\${!count[@]}"; do keys+=("$key"); done
IFS=$'\\n'; for ((i = 0; i < \${#keys[@]}; i++)); do
  for ((j = i + 1; j < \${#keys[@]}; j++)); do
    [[ \${keys[j]} < \${keys[i]} ]] && { t=\${keys[i]}; keys[i]=\${keys[j]}; keys[j]=$t; }
  done
  echo "\${keys[i]} \${count[\${keys[i]}]} $RANDOM"
done
`;

const ZSH = `
typeset -A seen; integer n=0
while read -r line; do (( n += \${#line} )); for w in \${=line}; do (( seen[$w]++ )); done; print "$n: \${(U)line}"; done
for w in \${(ok)seen}; do print -f '%-10s %d %s\\n' $w $seen[$w] \${(l:8::.:)w}; done
print \${(j:,:)\${(s: :)\${:-c b a}}} $(( 2 ** 40 )) $(( [#16] 48879 ))
`;

/** Makes the files the programs work on under `directory`, and says what to run on them. */
export function makeWorkloads(directory: string): Workload[] {
  const at = (name: string) => join(directory, name);
  mkdirSync(at('tree/sub'), { recursive: true });
  writeFileSync(at('prose.txt'), prose(4000, 1));
  writeFileSync(at('noise.bin'), noise(3 << 20, 2));
  writeFileSync(at('tree/a.txt'), prose(50, 3));
  writeFileSync(at('tree/sub/b.bin'), noise(10_000, 4));
  execFileSync('busybox', ['tar', 'cf', at('tree.tar'), '-C', directory, 'tree']);
  const uuid = '12345678-1234-1234-1234-123456789abc';
  execFileSync('/sbin/mke2fs', ['-q', '-t', 'ext4', '-U', uuid, '-d', at('tree'), at('fs.img'), '4M']);
  const signed = (name: string) => join(root, 'test/fixtures/signed', name);
  const lines = ['one 11\n', 'two 22 x\n', 'three\n', 'four 4', '44\nfive 5\n', 'six six\n'];
  const sentences = prose(12, 5).split(/(?<=\n)/);
  const awk = '{ n[$2 " " $3]++; sum += $4 } END { for (k in n) print k, n[k]; print sum, sin(sum), NR }';

  return [
    {
      name: 'busybox awk, a file',
      argv: ['busybox', 'awk', awk, at('prose.txt')],
      files: [at('prose.txt')],
    },
    {
      name: 'busybox sort',
      argv: ['busybox', 'sort', '-k2,3', '-k4n', at('prose.txt')],
      files: [at('prose.txt')],
    },
    {
      name: 'busybox sha256sum',
      argv: ['busybox', 'sha256sum', at('noise.bin'), at('prose.txt')],
      files: [at('noise.bin'), at('prose.txt')],
    },
    { name: 'busybox gzip, a pipe', argv: ['busybox', 'gzip', '-c'], input: [prose(3000, 6)] },
    {
      name: 'busybox grep, a pipe',
      argv: ['busybox', 'grep', '-n', '-E', 'fox|wiz[a-z]+'],
      input: sentences,
    },
    {
      name: 'busybox sed',
      argv: [
        'busybox',
        'sed',
        '-E',
        '/fox/d; 5,2000s/([a-z]+) ([a-z]+)/\\2 \\1/; /wizards/{=;h;G}',
        at('prose.txt'),
      ],
      files: [at('prose.txt')],
    },
    {
      name: 'busybox tar',
      argv: ['busybox', 'tar', 'xvOf', at('tree.tar')],
      files: [at('tree.tar')],
    },
    {
      name: 'busybox sh, interactive',
      argv: ['busybox', 'sh', '-c', SHELL, at('seen')],
      files: [at('tree')],
      input: lines,
    },
    {
      name: 'busybox bc, interactive',
      argv: ['busybox', 'bc', '-l'],
      input: [
        'scale=60\n',
        '4*a(1)\n',
        '2^200; sqrt(2)\n',
        'for(i=1;i<9;i++) e(i)\n',
        'x=0;while(x<2000)x+=1;x\n',
      ],
    },
    {
      name: 'busybox dc, interactive',
      argv: ['busybox', 'dc'],
      input: ['20 k 2 v p\n', '3 100 ^ p\n', '[la1+dsa*pla', '30>y]sy\n', '0sa1 lyx\n'],
    },
    { name: 'bash-static, interactive', argv: ['bash-static', '-c', BASH], input: sentences },
    { name: 'zsh-static, interactive', argv: ['zsh-static', '-f', '-c', ZSH], input: sentences },
    {
      name: 'ldconfig',
      argv: ['/sbin/ldconfig', '-p', '-C', '/etc/ld.so.cache'],
      files: ['/etc/ld.so.cache'],
    },
    {
      name: 'gpgv-static',
      argv: [
        'gpgv-static',
        '--status-fd',
        '1',
        '--keyring',
        signed('keyring.gpg'),
        signed('text.txt.sig'),
        signed('text.txt'),
      ],
      files: ['keyring.gpg', 'text.txt.sig', 'text.txt'].map(signed),
    },
    {
      name: 'e2fsck.static',
      argv: ['/sbin/e2fsck.static', '-fnv', at('fs.img')],
      files: [at('fs.img')],
    },
  ];
}
