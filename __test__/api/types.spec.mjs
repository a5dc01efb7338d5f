// The hand-written types: programs of users compile against them, and they say what the facade really has.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as esm from 'smartregistry-native';
import ts from 'typescript';

const root = fileURLToPath(new URL('../..', import.meta.url));
const programs = join(root, '__test__/types');

/** Parsed files by path: the libraries are the same for every program, and parsing them is most of the work. */
const parsed = new Map();

function compile(names, options) {
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
  assert.ok(ours.some(({ fileName }) => fileName.endsWith('/index.d.ts')));
  const found = [...program.getConfigFileParsingDiagnostics(), ...program.getOptionsDiagnostics(), ...program.getGlobalDiagnostics()];
  for (const file of ours) found.push(...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file));
  assert.equal(found.length, 0, ts.formatDiagnostics(found, host));
}

describe('types', () => {
  for (const resolution of ['node16', 'bundler']) {
    for (const dom of [true, false]) {
      const node16 = resolution === 'node16';
      const options = {
        noEmit: true,
        target: ts.ScriptTarget.ES2022,
        types: ['node'],
        module: node16 ? ts.ModuleKind.Node16 : ts.ModuleKind.ESNext,
        moduleResolution: node16 ? ts.ModuleResolutionKind.Node16 : ts.ModuleResolutionKind.Bundler,
        lib: ['lib.es2022.d.ts', ...(dom ? ['lib.dom.d.ts', 'lib.dom.iterable.d.ts'] : [])],
      };
      const where = `${resolution}, ${dom ? 'with' : 'without'} the DOM library`;
      it(`strict programs compile: ${where}`, () => compile(['strict.mts', ...(node16 ? ['commonjs.cts'] : [])], { ...options, strict: true }));
      it(`the snippets of the replaced package compile: ${where}`, () => compile(['snippets.mts', 'others.d.ts'], options));
    }
  }

  it('names exactly what the package exports, and every member that it promises is there', () => {
    const file = join(root, 'index.d.ts');
    const program = ts.createProgram([file], { types: ['node'] });
    const checker = program.getTypeChecker();
    const names = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(file)));
    const values = names.filter((symbol) => symbol.flags & (ts.SymbolFlags.Class | ts.SymbolFlags.Function));
    assert.deepEqual(values.map((symbol) => symbol.name).sort(), Object.keys(esm).sort());
    for (const symbol of values.filter(({ flags }) => flags & ts.SymbolFlags.Class)) {
      for (const { name } of checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol))) {
        // Fields of errors and breakers exist on instances only.
        if (['name', 'message', 'stack', 'cause', 'code', 'status', 'option', 'id'].includes(name)) continue;
        assert.ok(name in esm[symbol.name].prototype, `${symbol.name}.${name} is declared and missing`);
      }
    }
  });
});
