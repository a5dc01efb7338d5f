// The hand-written types: programs of users compile against them, and they say what the facade really has.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { before, describe, it } from 'node:test';
import * as esm from 'smartregistry-native';
import ts from 'typescript';
import { root } from '../../scripts/lib/paths.mjs';
import { compilers, programs } from '../support/compilers.mjs';
import { readmePrograms } from '../support/readme.mjs';

const snippets = (await readdir(join(programs, 'snippets'))).map((name) => `snippets/${name}`);

const resolutions = {
  node16: { module: 'node16', moduleResolution: 'node16' },
  nodenext: { module: 'nodenext', moduleResolution: 'nodenext' },
  bundler: { module: 'esnext', moduleResolution: 'bundler' },
};

for (const [name, start] of Object.entries(compilers)) {
  describe(name, () => {
    let compile;
    before(async () => {
      compile = await start();
    }, { timeout: 120_000 });

    for (const [resolution, modules] of Object.entries(resolutions)) {
      for (const dom of [true, false]) {
        const flags = { noEmit: true, target: 'es2022', types: 'node', ...modules, lib: `es2022${dom ? ',dom,dom.iterable' : ''}` };
        const where = `${resolution}, ${dom ? 'with' : 'without'} the DOM library`;
        // A bundler knows nothing of CommonJS modules that TypeScript would have to tell apart.
        const strict = ['strict.mts', 'reads.mts', 'others.d.ts', ...(resolution === 'bundler' ? [] : ['commonjs.cts', 'both.mts'])];
        it(`compiles strict programs: ${where}`, async () => assert.equal(await compile(strict, { ...flags, strict: true }), ''));
        it(`compiles the snippets of the replaced package: ${where}`, async () => assert.equal(await compile([...snippets, 'reads.mts', 'others.d.ts'], { ...flags, strict: false }), ''));
      }
    }

    it('compiles the programs of the README', async (t) => {
      // Inside the package, where its own name means it.
      const folder = await mkdtemp(join(programs, 'readme-'));
      t.after(() => rm(folder, { recursive: true }));
      const texts = await readmePrograms();
      const names = texts.map((_, i) => `${basename(folder)}/program-${i + 1}.mts`);
      await Promise.all(texts.map((text, i) => writeFile(join(programs, names[i]), text)));
      const flags = { noEmit: true, target: 'es2022', types: 'node', ...resolutions.nodenext, lib: 'es2022', strict: false };
      assert.equal(await compile([...names, 'readme.d.ts'], flags), '');
    });

    it('finds a mistake', async () => {
      const found = await compile(['mistake.mts'], { noEmit: true, target: 'es2022', types: 'node', ...resolutions.nodenext, lib: 'es2022', strict: true });
      assert.match(found, /mistake\.mts.*error TS2339/);
    });
  });
}

describe('types', () => {
  it('are of the same classes for both module systems', () => {
    const commonjs = createRequire(import.meta.url)('smartregistry-native');
    assert.deepEqual(Object.keys(commonjs).sort(), Object.keys(esm).sort());
    for (const [name, value] of Object.entries(esm)) assert.equal(commonjs[name], value, name);
  });

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
