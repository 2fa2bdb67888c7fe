/**
 * What programs and libraries load by name while they run, which no file header tells: plugins,
 * the modules of a language, locales, terminal descriptions. One table; everything else comes
 * with --file. (NSS "files" and "dns" are inside libc; gconv's character sets are left out.)
 */

export interface Companion {
  /** Matches the real path of a packed program or library; $1 ... in the rest are its groups. */
  of: RegExp;
  /** Files and directories, packed where the host has them. */
  take?: readonly string[];
  /** What of their contents is left out. */
  except?: RegExp;
  /** Directories that the program expects to write to, made empty. */
  make?: readonly string[];
}

export const COMPANIONS: readonly Companion[] = [
  // LANG=C.UTF-8 is every guest's.
  { of: /^.*\/libc\.so\.6$/, take: ['/usr/lib/locale/C.utf8'] },
  // TERM=linux is what a guest at a terminal has.
  {
    of: /^.*\/libtinfo\.so\.6[.\d]*$/,
    take: ['/lib/terminfo/l/linux', '/lib/terminfo/d/dumb', '/usr/share/terminfo/l/linux'],
  },
  { of: /^(.*)\/libcrypto\.so\.3[.\d]*$/, take: ['$1/ossl-modules', '/usr/lib/ssl/openssl.cnf'] },
  // The standard library without its tests, its graphical parts and what builds other programs.
  {
    of: /^(.*)\/bin\/(python3\.\d+)$/,
    take: ['$1/lib/$2', '/etc/$2'],
    except:
      /\/(tests?|idlelib|tkinter|turtledemo|lib2to3|ensurepip|pydoc_data|config-[^/]*)$|\/lib\/python3\.\d+\/[^/]*-packages$/,
  },
  {
    of: /^(.*)\/bin\/perl(5\.[\d.]+)?$/,
    take: ['$1/lib/x86_64-linux-gnu/perl-base', '$1/share/perl', '$1/lib/x86_64-linux-gnu/perl', '/etc/perl'],
  },
  { of: /^(.*)\/bin\/lua(5\.\d+)$/, take: ['$1/share/lua/$2', '$1/lib/x86_64-linux-gnu/lua/$2'] },
  {
    of: /^(.*)\/sbin\/nginx$/,
    take: ['/etc/nginx', '$1/share/nginx', '$1/lib/nginx/modules'],
    make: ['/var/log/nginx', '/var/lib/nginx', '/var/cache/nginx'],
  },
];

/** The rules that a packed file calls for, with their paths filled in. */
export function companionsOf(realPath: string): Companion[] {
  return COMPANIONS.filter(({ of }) => of.test(realPath)).map((rule) => ({
    ...rule,
    take: rule.take?.map((path) => realPath.replace(rule.of, path)),
  }));
}
