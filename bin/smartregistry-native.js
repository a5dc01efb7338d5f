#!/usr/bin/env node
// The command line program; all of it is in js/cli.
'use strict';

require('../js/cli/program.cjs')
  .main(process.argv)
  .then((code) => {
    process.exitCode = code;
  });
