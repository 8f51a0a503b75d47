module argserver

go 1.19
