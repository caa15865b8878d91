<?php
// As many bytes as ?n= asks for, and what they must be.
$n = min(1 << 20, (int)($_GET['n'] ?? 1000));
for ($i = 0, $out = ''; strlen($out) < $n; $i++) {
    $out .= "line $i of a page that php made\n";
}
echo substr($out, 0, $n);
