// TypeScript in several versions, each as a function that compiles programs of __test__/types and gives what it has to say against them.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { root } from '../../scripts/lib/paths.mjs';
import { run } from './process.mjs';

export const programs = join(root, '__test__/types');

const require = createRequire(import.meta.url);

/**
 * The oldest that is supported, the one that is installed here, and the newest of each major version.
 *
 * @type {Record<string, () => Promise<(names: string[], flags: Record<string, string | boolean>) => Promise<string>>>}
 */
export const compilers = {
  'TypeScript 5.4': async () => library(require((await client('typescript-5.4')).file)),
  'TypeScript 5.9': async () => library(require('typescript')),
  'TypeScript 6': async () => library(require((await client('typescript-6')).file)),
  // Its library is another; its command takes the same flags.
  'TypeScript 7': async () => command((await client('typescript-7')).argv),
};

function library(ts) {
  /** Parsed files by path: the libraries are the same for every program, and parsing them is most of the work. */
  const parsed = new Map();
  return async (names, flags) => {
    const { options, errors } = ts.convertCompilerOptionsFromJson({ ...flags, lib: flags.lib.split(','), types: [flags.types] }, programs);
    const host = ts.createCompilerHost(options);
    const { getSourceFile } = host;
    host.getCurrentDirectory = () => programs;
    host.getSourceFile = (path, how, ...rest) => {
      const key = `${path} ${how.impliedNodeFormat}`;
      if (!parsed.has(key)) parsed.set(key, getSourceFile(path, how, ...rest));
      return parsed.get(key);
    };
    const program = ts.createProgram(names.map((name) => join(programs, name)), options, host);
    // Only what is ours is checked: the libraries are the same every time.
    const ours = program.getSourceFiles().filter(({ fileName }) => fileName.startsWith(root) && !fileName.includes('node_modules'));
    if (!ours.some(({ fileName }) => fileName.endsWith('/index.d.ts'))) return 'the types of the package were not read';
    const found = [...errors, ...program.getConfigFileParsingDiagnostics(), ...program.getOptionsDiagnostics(), ...program.getGlobalDiagnostics()];
    for (const file of ours) found.push(...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file));
    return ts.formatDiagnostics(found, host);
  };
}

function command(argv) {
  return async (names, flags) => {
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const { code, output } = await run([...argv, '--ignoreConfig', '--listFiles', ...args, ...names], { cwd: programs, env: process.env });
    if (code !== 0) return output;
    return output.includes(join(root, 'index.d.ts')) ? '' : 'the types of the package were not read';
  };
}
