// fs.watch on a folder, as Node programs use it: prints each event.
const fs = require('fs');
fs.watch(process.argv[2], (event, name) => console.log(event, name));
console.log('ready');
